"""Compare TailDropout with multiplication by a precomputed mask, the minimum cost of any mask-based dropout."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from runner.benchmarks.timing import Comparison
from runner.dropout.tail import TailDropout

# Input shape, batch dimensions, the features' dimension, and the target for the cost of forward and backward relative
# to the product. A mask as large as its input has to be written before it is read.
SHAPES: tuple[tuple[tuple[int, ...], tuple[int, ...], int, float], ...] = (
    ((1024, 512), (0,), -1, 1.6),
    ((128, 64, 16, 16), (0,), 1, 1.1),
    ((64, 128, 512), (0, 1), -1, 1.6),
)


def tail_dropout(device: torch.device | str = "cpu") -> Iterator[Comparison]:
    """Compare forward and backward passes for each shape, including PyTorch's dropout and the obvious version."""
    for shape, batch_dims, dropout_dim, target in SHAPES:
        x = torch.randn(shape, device=device, requires_grad=True)
        mask = ready_mask(shape, batch_dims, dropout_dim).to(device)
        own = nn.Dropout2d(0.5) if len(shape) == 4 else nn.Dropout(0.5)
        versions: dict[str, Callable[[Tensor], Tensor]] = {
            "TailDropout": TailDropout(0.5, batch_dims, dropout_dim),
            f"nn.{type(own).__name__}": own,
            "obvious TailDropout": partial(obvious, batch_dims=batch_dims, dropout_dim=dropout_dim),
        }
        for name, version in versions.items():
            yield Comparison(
                f"{name}, {'x'.join(map(str, shape))}",
                "product with a ready mask",
                forward_and_backward(version, x),
                forward_and_backward(partial(torch.mul, mask), x),
                target=target if name == "TailDropout" else None,
            )


def obvious(x: Tensor, batch_dims: tuple[int, ...], dropout_dim: int) -> Tensor:
    """Apply TailDropout in the obvious way: draw k for every batch entry and keep the features below index k."""
    features, n = dropout_dim % x.dim(), x.shape[dropout_dim]
    k = torch.randint(0, n + 1, [x.shape[dim] if dim in batch_dims else 1 for dim in range(x.dim())], device=x.device)
    places = torch.arange(n, device=x.device).view([n if dim == features else 1 for dim in range(x.dim())])
    return x * (places < k).to(x.dtype)


def ready_mask(shape: tuple[int, ...], batch_dims: tuple[int, ...], dropout_dim: int) -> Tensor:
    """Return a mask that keeps half of the features and broadcasts like TailDropout's."""
    features = dropout_dim % len(shape)
    mask = torch.zeros([size if dim in (*batch_dims, features) else 1 for dim, size in enumerate(shape)])
    mask.narrow(features, 0, shape[features] // 2).fill_(1)
    return mask


def forward_and_backward(function: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], None]:
    """Return a callable that performs one forward and backward pass with a precomputed output gradient."""
    gradient = torch.randn_like(x)

    def once() -> None:
        function(x).backward(gradient)
        x.grad = None

    return once
