"""TailDropout beside a product with a mask that is ready: the least that any dropout by a mask can cost."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from runner.benchmarks.timing import Comparison
from runner.dropout.tail import TailDropout

# Input shape, batch and dropout dimensions, and what forward and backward may cost, over the product. A mask as large
# as its input has to be written before it is read.
SHAPES: tuple[tuple[tuple[int, ...], int, int, float], ...] = (
    ((1024, 512), 0, -1, 1.6),
    ((128, 64, 16, 16), 0, 1, 1.1),
    ((64, 128, 512), 0, -1, 1.6),
)


def tail_dropout(device: torch.device | str = "cpu") -> Iterator[Comparison]:
    """Forward and backward pass over each of the shapes."""
    for shape, batch_dim, dropout_dim, target in SHAPES:
        dropout = TailDropout(0.5, batch_dim, dropout_dim)
        x = torch.randn(shape, device=device, requires_grad=True)
        mask = ready_mask(shape, batch_dim, dropout_dim).to(device)
        yield Comparison(
            f"TailDropout, {'x'.join(map(str, shape))}",
            "product with a ready mask",
            forward_and_backward(dropout, x),
            forward_and_backward(lambda x, mask=mask: x * mask, x),  # type: ignore[misc]
            target=target,
        )


def ready_mask(shape: tuple[int, ...], batch_dim: int, dropout_dim: int) -> Tensor:
    """Half of the features, in the shape that broadcasts as TailDropout's mask does."""
    batch, features = batch_dim % len(shape), dropout_dim % len(shape)
    mask = torch.zeros([size if dim in (batch, features) else 1 for dim, size in enumerate(shape)])
    mask.narrow(features, 0, shape[features] // 2).fill_(1)
    return mask


def forward_and_backward(function: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], None]:
    """Does it once, with a gradient that is ready too, and leaves no gradient behind."""
    gradient = torch.randn_like(x)

    def once() -> None:
        function(x).backward(gradient)
        x.grad = None

    return once
