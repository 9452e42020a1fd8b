"""The functions for the rows of the table, with the names used in `only=[…]`.

To add a row, add a function that takes a setup and yields comparisons one at a time, so that the objects of one
comparison are freed before those of the next are built.
"""

from collections.abc import Callable, Iterator

import torch
from torch.utils.flop_counter import FlopCounterMode

from runner.benchmarks.language import language
from runner.benchmarks.setup import Setup, late_training, on_one_batch, one_step
from runner.benchmarks.sorting import SortingTargeted
from runner.benchmarks.tail import tail_dropout
from runner.benchmarks.timing import Comparison
from runner.benchmarks.translation import decoding, transformer
from runner.dropout.targeted import Targeted
from runner.pruning.sweep import Point, Sweeper
from runner.training.loop import Training
from runner.training.machine import autocast

# The size of the square matrices whose product measures the device's speed: small enough to be repeated, large enough
# for full speed.
_MATRIX_SIDE = {"cpu": 2048}
_MATRIX_SIDE_ELSEWHERE = 8192
# The targets for the cost of a training step relative to one without dropout. The variational variants need two
# convolutions and new noise.
_STEP_TARGETS = {"targeted": 1.05, "ramping": 1.05, "targeted_unit": 1.05, "variational": 3.5, "variational_unit": 3.5}


def step(setup: Setup) -> Iterator[Comparison]:
    """Compare training steps with and without each dropout, and `targeted` with a version that sorts every layer."""
    for name in setup.dropouts:
        parts, plain = setup.parts(f"dropout={name}"), setup.parts()
        yield Comparison(
            f"step, {name}",
            "step, none",
            one_step(on_one_batch(late_training(parts))),
            one_step(on_one_batch(late_training(plain))),
            target=_STEP_TARGETS.get(name, 1.15),
        )
    if "targeted" in setup.dropouts:
        parts, sorting = setup.parts("dropout=targeted"), setup.parts("dropout=targeted")
        assert isinstance(sorting.variant, Targeted)
        sorting.variant = SortingTargeted(sorting.variant.alpha, sorting.variant.gamma)
        yield Comparison(
            "step, targeted",
            "step, sorting each layer",
            one_step(on_one_batch(late_training(parts))),
            one_step(on_one_batch(late_training(sorting))),
            target=1.0,
        )


def data(setup: Setup) -> Iterator[Comparison]:
    """Compare training on batches from the data pipeline with training on a single batch."""
    whole, fixed = late_training(setup.parts()), on_one_batch(late_training(setup.parts()))
    images = float(whole.examples_per_step)
    yield Comparison(
        "training with its data",
        "steps on one batch",
        one_step(whole),
        one_step(fixed),
        target=0.95,
        higher_is_better=True,
        work=(images, images),
        unit="images",
    )


def sweep(setup: Setup) -> Iterator[Comparison]:
    """Compare a point of a pruning sweep with plain forward passes on the same images."""
    parts = setup.parts()
    model = parts.model.eval()
    batches = list(parts.data.eval_batches("test"))

    def forward() -> None:
        with torch.no_grad(), autocast(parts.precision, parts.device):
            for inputs, _ in batches:
                model(inputs)

    yield Comparison(
        f"sweep point, {parts.data.sizes()['test']} images",
        "bare forward pass",
        sweep_points(parts.sweeper({}), setup.calls),
        forward,
        target=1.10,
    )


def sweep_points(sweeper: Sweeper, calls: int) -> Callable[[], object]:
    """Return a callable that evaluates the next of `calls` points and returns it with its row.

    The points belong to one sweep and have different sparsities, so that each needs its own mask. The first call also
    computes the ranking.
    """
    points = [Point("weight", "layer", "own", 0.0, "kept", i / calls, "test") for i in range(calls)]
    rows = sweeper.rows(points)
    return lambda: next(rows)


def matmul(setup: Setup) -> Iterator[Comparison]:
    """Compare the speed of a training step with the speed of a large matrix product on the device."""
    parts = setup.parts()
    training = on_one_batch(late_training(parts))
    side = _MATRIX_SIDE.get(parts.device.type, _MATRIX_SIDE_ELSEWHERE)
    dtype = torch.bfloat16 if parts.precision == "bf16" else torch.float32
    left, right = (torch.randn(side, side, device=parts.device).to(dtype) for _ in range(2))
    product = torch.empty_like(left)
    yield Comparison(
        "step, none",
        f"{parts.precision} matrix product, {side}",
        one_step(training),
        lambda: torch.mm(left, right, out=product),
        higher_is_better=True,
        work=(float(step_flops(training)), 2.0 * side**3),
        unit="FLOP",
    )


def step_flops(training: Training) -> int:
    """Count the floating-point operations in a step's matrix products and convolutions, forward and backward.

    This performs one step. Operations in the optimizer and in element-wise layers are not counted.
    """
    compiled, training.forward = training.forward, training.model
    with FlopCounterMode(display=False) as counter:
        one_step(training)()
    training.forward = compiled
    return int(counter.get_total_flops())


def tail(setup: Setup) -> Iterator[Comparison]:
    """Compare TailDropout with multiplication by a precomputed mask."""
    return tail_dropout(setup.parts().device)


ROWS: dict[str, Callable[[Setup], Iterator[Comparison]]] = {
    **{"step": step, "data": data, "sweep": sweep, "matmul": matmul},
    **{"tail": tail, "transformer": transformer, "decoding": decoding, "language": language},
}
