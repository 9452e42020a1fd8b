"""TailDropout (Martinsson, 2018): features learn an order, so that the trained network can be cut to any width.

The first k of n features are kept and the tail is zero. In training, k is drawn for every example. Nothing is rescaled.

The distribution of k: a length u in (0, 1] of the features is kept, u = min(1, a E) with E ~ Exp(1). This exponential
distribution is censored at 1, so that all features are kept with probability exp(-1 / a). `get_scale_param` finds the
scale a for which the mean dropped length is p, E[u] = a (1 - exp(-1 / a)) = 1 - p. The length n u is rounded up or down
at random to an integer k, without bias. Integrating over u and the rounding gives a geometric distribution,

    P(k > j) = c r^j for j = 0 … n - 1,  r = exp(-s), c = (1 - r) / s, s = 1 / (a n),

whose sum over j is n a (1 - exp(-1 / a)): the mean drop rate E[1 - k / n] is exactly p for every n. The probability of
k = 0 is 1 - c, about 1 / (2 a n). One uniform number U determines k: feature j is kept if U >= 1 - c r^j.

Because of the censoring, even p = 1e-5 orders features: most examples keep all features, and for the few others all k
are about equally likely.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from runner.dropout.features import OrderingVariant
from runner.errors import ParameterError
from runner.models.layers import FeaturePlace
from runner.parameters import fraction, one_of, proper_fraction
from runner.processes import ALONE, OneProcess

SAMPLING = ("independent", "stratified")


def get_scale_param(p: float, tol: float = 1e-9) -> float:
    """Return the scale a of the censored exponential whose mean dropped length is p: 1 - a (1 - exp(-1 / a)) = p.

    Args:
        p: mean drop rate, in (0, 1). The scale is about 1 / (2 p) for small p and 1 - p for large p.
        tol: the largest error of the mean drop rate, as a fraction of p or of 1 - p, whichever is smaller.

    Raises:
        ValueError: p is not between 0 and 1, so there is no such scale.
    """
    proper_fraction("p", p)
    # Bisection over the rate x = 1 / a. The drop rate x / 2 - … increases with x and is at least x / (2 + x) and
    # 1 - 1 / x.
    low, high = 2 * p, min(2 * p / (1 - p), 1 / (1 - p))
    middle = (low + high) / 2
    while abs(_mean_drop(middle) - p) > tol * min(p, 1 - p) and low < middle < high:
        low, high = (middle, high) if _mean_drop(middle) < p else (low, middle)
        middle = (low + high) / 2
    return 1 / middle


def _mean_drop(rate: float) -> float:
    """Return 1 - (1 - exp(-rate)) / rate, computed by its series where the difference would lose precision."""
    if rate < 1e-3:
        return rate / 2 * (1 - rate / 3 * (1 - rate / 4 * (1 - rate / 5)))
    return 1 + math.expm1(-rate) / rate


def drop_rates(scale: float, n: int, device: torch.device | str = "cpu") -> Tensor:
    """Return each feature's drop probability P(k <= j) = 1 - c r^j for j = 0 … n - 1, as (n,) float32."""
    s = 1 / (scale * n)
    log_c = math.log(-math.expm1(-s) / s)
    return torch.arange(n, device=device, dtype=torch.float32).mul_(-s).add_(log_c).expm1_().neg_()


class TailDropout(nn.Module):
    """Keep the first k features of the input and set the others to zero. In training, k is random.

    This is a drop-in replacement for nn.Dropout and for Martinsson's `taildropout.TailDropout`, whose state dicts can
    be loaded whether they hold k in a buffer `k`, in a buffer `_k` or not at all. In evaluation, all features pass.
    After `set_k(k)`, the first k pass in both modes; `.train()` and `.eval()` undo `set_k`, with a warning. The dtype
    is kept.

    The distribution of k differs slightly from that of `taildropout`, P(k > j) = exp(-(j + 1) / (a n)). The latter
    rounds the kept length down to an integer k and therefore drops more than p: for n = 5 features and p = 0.5, the
    mean is 0.575 instead of 0.500, and all features are dropped with probability 0.27 instead of 0.14. The difference
    decreases as 1 / n.

    For images of shape (N, C, H, W), use `dropout_dim=1`; the mask is then the same at all pixels. For sequences
    (N, T, F), there is one k per example with `batch_dim=0`, and one per position with `batch_dim=(0, 1)`.

    A k that has been set is part of the state dict. Setting another k does not trigger recompilation.

    Args:
        p: the mean fraction of the features that is dropped, in [0, 1]; 0 and 1 are exact.
        batch_dim: the dimension along which every index has its own k. With several dimensions, every combination of
            indices has its own.
        dropout_dim: the dimension of the features.
        sampling: "independent" or "stratified". The latter spreads the k of a batch evenly over their distribution, in
            random order, which removes most of the noise in the batch's mean loss.

    Raises:
        ValueError: p is outside [0, 1], dimensions overlap or do not exist in the input, or k is negative or larger
            than the number of features (compiled and exported code does not check this, and keeps all features).
    """

    _k: Tensor
    processes: OneProcess = ALONE

    def __init__(
        self,
        p: float = 0.5,
        batch_dim: int | Sequence[int] = 0,
        dropout_dim: int = -1,
        sampling: str = "independent",
    ) -> None:
        super().__init__()
        self.batch_dim = batch_dim if isinstance(batch_dim, int) else tuple(batch_dim)
        self.dropout_dim = dropout_dim
        if dropout_dim in self._batch_dims():
            raise self._overlap()
        self.sampling = one_of("sampling", sampling, SAMPLING)
        self.set_p(p)
        # A tensor, so that compiled and exported code reads it and does not depend on k. Whether k is set is also kept
        # in Python, and so is its value, for a check that does not synchronize with a GPU.
        self.register_buffer("_k", torch.tensor(-1))
        self._given = False
        self._first = -1
        self._rates: tuple[tuple[float, int, torch.device], Tensor] | None = None  # cached rates and their key

    def set_p(self, p: float) -> None:
        """Set the mean drop rate."""
        self.p = fraction("p", p)
        self.scale = get_scale_param(p) if 0 < p < 1 else math.inf if p == 0 else 0.0

    @property
    def k(self) -> int | None:
        """The number of features to keep. None means a random number in training and all features in evaluation."""
        return self._first if self._given else None

    def set_k(self, k: int | None) -> None:
        """Keep the first k features in training and in evaluation. None undoes an earlier `set_k`."""
        if k is not None and (isinstance(k, bool) or not isinstance(k, Integral) or k < 0):
            raise ParameterError("k", k, "None or a whole number, 0 or above")
        self._given = k is not None
        self._first = -1 if k is None else int(k)
        self._k.fill_(self._first)

    def train(self, mode: bool = True) -> "TailDropout":
        if self._given:
            call = "train()" if mode else "eval()"
            warnings.warn(f"{call} undoes set_k({self._first}); call set_k after it", UserWarning, stacklevel=2)
            self.set_k(None)
        super().train(mode)
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Drop features of x, which may have any shape. The output has the same shape and dtype."""
        return self.drop(x, self.training)

    def drop(self, x: Tensor, training: bool, per_position: bool = False) -> Tensor:
        """Drop features like `forward`, but in the given mode instead of the module's own.

        Args:
            x: the input, of any shape.
            training: whether to drop features as in training.
            per_position: whether every combination of indices along the dimensions other than `dropout_dim` has its
                own k.
        """
        if not self._given and (not training or self.p == 0):
            return x
        features, rows = self._shapes(x, per_position)
        n = x.shape[features]
        columns = [n if dim == features else 1 for dim in range(x.dim())]
        if self._given:
            if not torch.compiler.is_compiling() and self._first > n:
                raise ParameterError("k", self._first, f"at most {n}, the input's features")
            positions = torch.arange(n, device=x.device).view(columns)
            return x * (positions < self._k).to(x.dtype)
        if self.p == 1:
            return x * 0
        uniform, rates = self._uniform(rows, x.device), self._drop_rates(n, x.device).view(columns)
        if torch.compiler.is_compiling():
            return x * (uniform >= rates).to(x.dtype)
        # Write in the input's dtype directly: comparing and then converting takes three times as long as the product.
        rows[features] = n
        return x * torch.ge(uniform, rates, out=torch.empty(rows, dtype=x.dtype, device=x.device))

    def _uniform(self, shape: list[int], device: torch.device) -> Tensor:
        """Draw a number in [0, 1) for every k. Features whose drop rate exceeds it are dropped."""
        # Single-precision numbers are multiples of 2^-24, too coarse for small rates. Apple's GPUs support no others.
        fine = self.p < 0.01 and device.type != "mps"

        def draw(rows: int) -> Tensor:
            size = (rows, *shape[1:])
            uniform = torch.rand(size, device=device, dtype=torch.float64 if fine else torch.float32)
            if self.sampling == "stratified":
                places = torch.randperm(uniform.numel(), device=device).view(size)
                uniform = (places + uniform) / uniform.numel()
            return uniform.to(torch.float32)

        return self.processes.drawn(draw, shape[0])

    def _drop_rates(self, n: int, device: torch.device) -> Tensor:
        """Return P(k <= j) for every feature j, as an increasing (n,) tensor with mean p."""
        if torch.compiler.is_compiling():
            return drop_rates(self.scale, n, device)
        key = (self.scale, n, device)
        if self._rates is None or self._rates[0] != key:
            self._rates = (key, drop_rates(self.scale, n, device))
        return self._rates[1]

    def _shapes(self, x: Tensor, per_position: bool) -> tuple[int, list[int]]:
        """Return the feature dimension, non-negative, and the input's shape with 1 in all but the batch dimensions."""
        wanted = (self.dropout_dim, *self._batch_dims())
        if not all(-x.dim() <= dim < x.dim() for dim in wanted):
            dims = f"dropout_dim={self.dropout_dim}, batch_dim={self.batch_dim}"
            raise ValueError(f"{dims}: the input has only {x.dim()} dimensions")
        features, *batch = (dim % x.dim() for dim in wanted)
        if features in batch:
            raise self._overlap()
        if per_position:
            batch = [dim for dim in range(x.dim()) if dim != features]
        return features, [size if dim in batch else 1 for dim, size in enumerate(x.shape)]

    def _batch_dims(self) -> tuple[int, ...]:
        return (self.batch_dim,) if isinstance(self.batch_dim, int) else self.batch_dim

    def _overlap(self) -> ParameterError:
        return ParameterError("dropout_dim", self.dropout_dim, f"a dimension that is not in batch_dim={self.batch_dim}")

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *arguments: Any) -> None:
        # State dicts of networks without this layer, or with nn.Dropout in its place, can be loaded too. The buffer of
        # taildropout is called k or _k, depending on its version, and has one element.
        own, foreign = f"{prefix}_k", f"{prefix}k"
        k = torch.as_tensor(state_dict.get(own, state_dict.get(foreign, -1)))
        if k.numel() == 1:
            k = k.reshape(()).long()
        state_dict = {**{name: value for name, value in state_dict.items() if name != foreign}, own: k}
        super()._load_from_state_dict(state_dict, prefix, *arguments)
        self._first = int(self._k)
        self._given = self._first >= 0

    def extra_repr(self) -> str:
        return f"p={self.p}, batch_dim={self.batch_dim}, dropout_dim={self.dropout_dim}"


class Tail(OrderingVariant):
    """TailDropout at the model's feature places. Features learn an order, so that the last ones are pruned first.

    Args:
        p: the mean fraction of a place's features that is dropped, in [0, 1].
        places: names of the modules whose inputs are dropped, among the model's declared places; None means all.
        sampling: "independent", or "stratified" over the batch; see `TailDropout`.
        per_position: whether to draw one k per position of sequences and images instead of one per example.
    """

    def __init__(
        self,
        p: float = 0.5,
        places: Sequence[str] | None = None,
        sampling: str = "independent",
        per_position: bool = False,
    ) -> None:
        super().__init__(places)
        self.p = fraction("p", p)
        self.sampling, self.per_position = one_of("sampling", sampling, SAMPLING), per_position
        self.dropouts: dict[str, TailDropout] = {}

    def change_at(self, place: FeaturePlace, consumer: nn.Module) -> Callable[[Tensor, bool], Tensor]:
        # The module is not part of the model, whose parameters and state dict do not change.
        weight = consumer.weight
        assert isinstance(weight, Tensor)
        dropout = TailDropout(self.p, 0, place.dim, self.sampling).to(weight.device)
        dropout.processes = self.processes
        self.dropouts[place.consumer] = dropout
        return partial(dropout.drop, per_position=self.per_position)

    def detach(self) -> None:
        super().detach()
        self.dropouts = {}

    def set_k(self, k: int | None) -> None:
        """Keep the first k features of every place while attached, even in training. None undoes this."""
        for dropout in self.dropouts.values():
            dropout.set_k(k)
