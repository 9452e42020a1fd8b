"""TailDropout: features learn an order, so that one training serves every width (Martinsson, 2018).

Of n features the first k are kept and the tail is zero; in training k is drawn for every example. Nothing is rescaled.

How k is drawn: a length u in (0, 1] of the features is kept, u = min(1, a E), E ~ Exp(1): an exponential distribution,
censored at 1, so that all features are kept with probability exp(-1 / a). `get_scale_param` finds the scale a for which
the mean dropped length is p, E[u] = a (1 - exp(-1 / a)) = 1 - p. The length n u is rounded up or down to a whole k at
random, without bias. Integrated over u and the rounding, that is a geometric law,

    P(k > j) = c r^j for j = 0 … n - 1,  r = exp(-s), c = (1 - r) / s, s = 1 / (a n),

whose sum over j is n a (1 - exp(-1 / a)): the mean drop rate E[1 - k / n] is exactly p for every n. A k of 0 has
probability 1 - c, about 1 / (2 a n). One uniform number U gives k: feature j is kept where U >= 1 - c r^j.

Because of the censoring even p = 1e-5 orders features: most examples keep all, the few others have any k alike.
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
    """The scale a of the censored exponential that drops the mean length p: 1 - a (1 - exp(-1 / a)) = p.

    Args:
        p: mean drop rate, between 0 and 1; the scale is about 1 / (2 p) for small ones, 1 - p for large ones.
        tol: largest error of the mean drop rate, as a fraction of p or of 1 - p, whichever is smaller.

    Raises:
        ValueError: p is not between 0 and 1, where there is no such scale.
    """
    proper_fraction("p", p)
    # In the rate 1 / a, of which the drop rate x / 2 - … is a rising function, at least x / (2 + x) and 1 - 1 / x.
    low, high = 2 * p, min(2 * p / (1 - p), 1 / (1 - p))
    middle = (low + high) / 2
    while abs(_mean_drop(middle) - p) > tol * min(p, 1 - p) and low < middle < high:
        low, high = (middle, high) if _mean_drop(middle) < p else (low, middle)
        middle = (low + high) / 2
    return 1 / middle


def _mean_drop(rate: float) -> float:
    """1 - (1 - exp(-rate)) / rate, by its series where the difference would cancel."""
    if rate < 1e-3:
        return rate / 2 * (1 - rate / 3 * (1 - rate / 4 * (1 - rate / 5)))
    return 1 + math.expm1(-rate) / rate


def drop_rates(scale: float, n: int, device: torch.device | str = "cpu") -> Tensor:
    """P(k <= j) = 1 - c r^j for j = 0 … n - 1: (n,) float32, the probability with which each feature is dropped."""
    s = 1 / (scale * n)
    log_c = math.log(-math.expm1(-s) / s)
    return torch.arange(n, device=device, dtype=torch.float32).mul_(-s).add_(log_c).expm1_().neg_()


class TailDropout(nn.Module):
    """Keeps the first k features of its input and sets the others to zero; k is random in training.

    A drop-in for nn.Dropout and for Martinsson's `taildropout.TailDropout`, whose state dicts load, with their k in a
    buffer `k` or `_k` or without. In evaluation all features pass, after `set_k(k)` the first k in both modes;
    `.train()` and `.eval()` undo `set_k`, with a warning. Inputs keep their dtype.

    The law of k is not quite the one of `taildropout`, P(k > j) = exp(-(j + 1) / (a n)), which rounds the length that
    is kept down to a whole k and so drops more than p: for n = 5 features and p = 0.5 a mean of 0.575 instead of 0.500,
    and all of them with probability 0.27 instead of 0.14. The difference falls as 1 / n.

    For images of shape (N, C, H, W), `dropout_dim=1`: the mask is the same over space. For sequences (N, T, F), one k
    for each example with `batch_dim=0`, one for each position with `batch_dim=(0, 1)`.

    A k that is set is part of the state dict. Setting another one doesn't compile anything anew.

    Args:
        p: mean fraction of the features that is dropped, in [0, 1]; 0 and 1 are exact.
        batch_dim: the dimension, or dimensions, of which every entry, or combination of entries, has a k of its own.
        dropout_dim: the features' dimension.
        sampling: "independent", or "stratified": the k of a batch are spread evenly over their distribution, in random
            order, which takes most of the noise out of a batch's mean loss.

    Raises:
        ValueError: p outside [0, 1], dimensions that overlap or that an input lacks, a k that is negative or beyond the
            features (compiled and exported code doesn't look at that, and keeps all).
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
        # A tensor, so that compiled and exported code reads it and isn't made for one k. Whether there is one and, for
        # a check that doesn't wait for a GPU, its value are kept in Python too.
        self.register_buffer("_k", torch.tensor(-1))
        self._given = False
        self._first = -1
        self._rates: tuple[tuple[float, int, torch.device], Tensor] | None = None  # the last ones, and what they are of

    def set_p(self, p: float) -> None:
        """Sets the mean drop rate."""
        self.p = fraction("p", p)
        self.scale = get_scale_param(p) if 0 < p < 1 else math.inf if p == 0 else 0.0

    @property
    def k(self) -> int | None:
        """How many features are kept; None: a random number in training, all in evaluation."""
        return self._first if self._given else None

    def set_k(self, k: int | None) -> None:
        """Keep the first k features from now on, in training and in evaluation; None: as if never set."""
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
        """x of any shape → the same shape and dtype."""
        return self.drop(x, self.training)

    def drop(self, x: Tensor, training: bool, per_position: bool = False) -> Tensor:
        """`forward` in either mode, whatever the module's own; `per_position`: with all other dimensions as batch."""
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
        # Written in the input's dtype at once: comparing and then converting takes three times as long as the product.
        rows[features] = n
        return x * torch.ge(uniform, rates, out=torch.empty(rows, dtype=x.dtype, device=x.device))

    def _uniform(self, shape: list[int], device: torch.device) -> Tensor:
        """A number in [0, 1) for every k; the features whose drop rate exceeds it go."""
        # Numbers of single precision are multiples of 2^-24, too coarse for small rates; Apple's GPUs have no others.
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
        """P(k <= j) of every feature j: (n,), rising; their mean is p."""
        if torch.compiler.is_compiling():
            return drop_rates(self.scale, n, device)
        key = (self.scale, n, device)
        if self._rates is None or self._rates[0] != key:
            self._rates = (key, drop_rates(self.scale, n, device))
        return self._rates[1]

    def _shapes(self, x: Tensor, per_position: bool) -> tuple[int, list[int]]:
        """The features' dimension from 0 on, and the input's shape with 1 in all but the batch dimensions."""
        wanted = (self.dropout_dim, *self._batch_dims())
        if not all(-x.dim() <= dim < x.dim() for dim in wanted):
            dims = f"dropout_dim={self.dropout_dim}, batch_dim={self.batch_dim}"
            raise ValueError(f"{dims}: an input of {x.dim()} dimensions lacks one of them")
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
        # Weights of a network that has no such layer, or nn.Dropout in its place, fit too. What taildropout stores is
        # called k or _k, depending on its version, and has one element.
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
    """TailDropout of the model's feature places: their features learn an order, the last ones are the first to go.

    Args:
        p: mean fraction of a place's features that is dropped, in [0, 1].
        places: names of the modules whose inputs are dropped, of those that the model declares; None: all of them.
        sampling: "independent", or "stratified" over the batch; see `TailDropout`.
        per_position: in sequences and images, draw a k for each position, not one for each example.
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
        # The module is no part of the model: parameters and state dict stay the plain ones.
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
        """Keep the first k features of every place while attached, in training too; None: as if never set."""
        for dropout in self.dropouts.values():
            dropout.set_k(k)
