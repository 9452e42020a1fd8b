"""A network that trains with part of its weights, filters or features gone for good: what `run ticket` trains.

What the mask removes is zero when training begins and gets no gradient, so momentum, weight decay and penalties leave
it at zero; the product with the mask makes that hold for any optimiser. Its configuration says where the mask and the
first weights come from, so that runs which differ in it are different runs; the mask itself is given to it.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from runner.dropout.base import Scores, WeightVariant
from runner.parameters import fraction, one_of

# Each option and the words that it allows.
_WORDS = {
    "granularity": ("weight", "unit", "feature"),
    "scores": ("own", "magnitude", "random"),
    "weights": ("rewound", "fresh", "final"),
}


class _FixedMask(nn.Module):
    kept: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("kept", torch.ones_like(weight, dtype=torch.bool))  # in the weight's memory format

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.kept


class Masked(WeightVariant):
    """A fixed mask; set `removed` before it attaches.

    Args:
        source: the run whose weights the mask was found in, as `<dropout>-<8 digits of its hash>`; None: no run's.
        granularity: what the mask removes whole: "weight", "unit" or "feature".
        sparsity: the fraction of every filter's weights, every layer's filters or every place's features that it
            removes.
        scores: what ranked them: the source's "own", "magnitude", "random".
        weights: what training begins with: the source's "rewound" or "final" ones, or "fresh" initial ones.
        rewind: the training step to which they were rewound, where training goes on.
        round: how often the network was pruned to come here; iterative pruning counts them.
    """

    baked = True

    def __init__(
        self,
        source: str | None,
        granularity: str,
        sparsity: float,
        scores: str,
        weights: str,
        rewind: int = 0,
        round: int = 1,
    ) -> None:
        super().__init__()
        for name, value in (("granularity", granularity), ("scores", scores), ("weights", weights)):
            one_of(name, value, _WORDS[name])
        self.granularities = (granularity,)
        self.sparsity = fraction("sparsity", sparsity)
        self.removed: Mapping[str, Tensor] = {}  # module → True where removed, broadcastable over the weight

    def attach(self, model: nn.Module, layers: Iterable[str] | None = None) -> None:
        """Put the masks into the modules that they are for; the raw weights there become zero too.

        Raises:
            ValueError: it has no masks, or is attached already.
        """
        if not self.removed:
            raise ValueError("it has no mask to train with; run ticket FOLDER finds one")
        super().attach(model, self.removed if layers is None else layers)

    def parametrization(self, weight: Tensor) -> nn.Module:
        return _FixedMask(weight)

    @torch.no_grad()
    def attach_layer(self, name: str, layer: nn.Module) -> None:
        super().attach_layer(name, layer)
        kept = self.parametrization_in(layer).kept
        kept.copy_(~self.removed[name])
        raw = layer.parametrizations.weight.original  # type: ignore[union-attr]
        raw.mul_(kept)  # type: ignore[operator]

    def scores(self) -> Scores:
        """Magnitudes with what is masked below them all, so that pruning further never brings anything back.

        Of features none: those that are gone have filters of norm zero.
        """
        (granularity,) = self.granularities
        if granularity == "feature":
            return {}
        scores = {}
        for name, layer in self.layers.items():
            weight = self._evaluated(layer).float().contiguous().flatten(1)
            kept = self.parametrization_in(layer).kept.contiguous().flatten(1)
            if granularity == "unit":
                scores[name] = weight.norm(dim=1).masked_fill(~kept.any(dim=1), -1)
            else:
                scores[name] = weight.abs().masked_fill(~kept, -1)
        return {granularity: scores}
