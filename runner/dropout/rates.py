"""The drop rate α and the targeted fraction γ, which may rise during training."""

from collections.abc import Sequence
from typing import Any

from runner.dropout.base import WeightVariant
from runner.errors import ParameterError
from runner.parameters import fraction, one_of
from runner.rules import between, list_of

SHAPES = ("linear", "cubic")


class Rates:
    """The current drop rate and targeted fraction, shared by all layers of one variant.

    Args:
        alpha, gamma: the final values, in [0, 1].
        ramp: three fractions of training: when γ is at 95 % of its final value (used only by the linear shape), when γ
            is at 100 %, and when α is at 100 %. None means that both are constant.
        shape: the shape of γ's ramp: "linear" in two pieces, or "cubic", γ_t = γ (1 − (1 − t / ramp[1])³).
    """

    def __init__(self, alpha: float, gamma: float, ramp: Sequence[float] | None = None, shape: str = "linear") -> None:
        self.end_alpha = fraction("alpha", alpha)
        self.end_gamma = fraction("gamma", gamma)
        self.ramp = None if ramp is None else _checked(ramp)
        self.shape = one_of("ramp_shape", shape, SHAPES)
        self.alpha, self.gamma = self.end_alpha, self.end_gamma
        self._move_to(0.0)

    def before_step(self, step: int, total: int) -> None:
        """Update the rates; see `Variant.before_step`."""
        # The last step counts as the end of training, so that a ramp over all of it is completed.
        self._move_to(step / total if step + 1 < total else 1.0)

    def _move_to(self, progress: float) -> None:
        if self.ramp is None:
            return
        bend, gamma_end, alpha_end = self.ramp
        if self.shape == "cubic":
            self.gamma = self.end_gamma * (1 - (1 - rise(progress, 0.0, gamma_end)) ** 3)
        else:
            self.gamma = ramped_gamma(progress, self.end_gamma, bend, gamma_end)
        self.alpha = self.end_alpha * rise(progress, 0.0, alpha_end)

    def state_dict(self) -> dict[str, Any]:
        """Return the current rates."""
        return {"alpha": self.alpha, "gamma": self.gamma}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the state returned by `state_dict`."""
        self.alpha, self.gamma = state["alpha"], state["gamma"]


class RatedVariant(WeightVariant):
    """A variant with a drop rate and a targeted fraction.

    Args:
        rates: the rates. Their final values and ramp are available as `alpha`, `gamma` and `ramp`.
    """

    def __init__(self, rates: Rates) -> None:
        super().__init__()
        self.rates = rates
        self.alpha, self.gamma, self.ramp = rates.end_alpha, rates.end_gamma, rates.ramp

    def before_step(self, step: int, total: int) -> None:
        self.rates.before_step(step, total)

    def state_dict(self) -> dict[str, Any]:
        return self.rates.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rates.load_state_dict(state)


def rise(progress: float, start: float, end: float) -> float:
    """Return 0 up to `start`, 1 at `end` and after, and a linear interpolation in between."""
    if progress >= end:
        return 1.0
    return 0.0 if progress <= start else (progress - start) / (end - start)


def ramped_gamma(progress: float, gamma: float, bend: float, end: float) -> float:
    """Return γ_t of the linear ramp, which is exactly γ at the end (0.95 γ + 0.05 γ can be slightly less)."""
    if progress >= end:
        return gamma
    return gamma * (0.95 * rise(progress, 0.0, bend) + 0.05 * rise(progress, bend, end))


def _checked(ramp: Sequence[float]) -> tuple[float, float, float]:
    if list_of(between(0, 1))(ramp) or len(ramp) != 3 or ramp[0] > ramp[1]:
        raise ParameterError("ramp", ramp, "three fractions of training, the first two rising")
    return float(ramp[0]), float(ramp[1]), float(ramp[2])
