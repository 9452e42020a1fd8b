"""Networks that train with part of their weights, filters or features gone for good.

What the mask removes is zero when training begins and stays so.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from runner.config.choices import names
from runner.densities import SCOPES
from runner.dropout.base import Scores, WeightVariant
from runner.dropout.groups import find_granularity
from runner.dropout.mask import Mask
from runner.models.layers import filters_first
from runner.parameters import fraction, one_of
from runner.pruning.ranking import rank


class FixedMask(WeightVariant):
    """Keeps what was pruned at zero while the network goes on training.

    Every forward pass multiplies the weights by the mask. So what was removed gets no gradient, and whatever the
    optimiser does to it, out of its momentum, say, has no effect; when the variant detaches it is zero::

        kept = FixedMask(prune(model, 0.9))
        kept.attach(model)  # fine-tune as ever, with a new optimiser or the old one
        kept.detach()

    Args:
        removed: what `runner.pruning.apply.prune` returned: the name of a layer → a mask that broadcasts over its
            weight, True for what was removed.
    """

    baked = True

    def __init__(self, removed: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.removed = removed

    def attach(self, model: nn.Module, layers: Iterable[str] | None = None, example: Any = None) -> None:
        """Put the masks into the layers that they are for; the raw weights there become zero too.

        Raises:
            ValueError: it has no masks, is attached already, or the model has no such layers.
        """
        if not self.removed:
            raise ValueError("there are no masks to keep")
        super().attach(model, self.removed if layers is None else layers)

    def parametrization(self, weight: Tensor) -> nn.Module:
        return Mask(weight)

    @torch.no_grad()
    def attach_layer(self, name: str, layer: nn.Module) -> None:
        super().attach_layer(name, layer)
        kept = self.parametrization_in(layer).kept
        kept.copy_(~filters_first(layer, self.removed[name].to(kept.device)))
        self.raw_weight(layer).mul_(kept)


class _OneGranularity(FixedMask):
    """A mask that was found for one granularity, the only one of `granularities`."""

    def scores(self) -> Scores:
        """Magnitudes with what is masked below them all, so that pruning further never brings anything back.

        Of other members than weights and filters none: those that are gone have magnitude zero.
        """
        (granularity,) = self.granularities
        if granularity not in ("weight", "unit"):
            return {}
        scores = {}
        for name, layer in self.layers.items():
            weight = filters_first(layer, self._evaluated(layer)).float().contiguous().flatten(1)
            kept = self.parametrization_in(layer).kept.contiguous().flatten(1)
            if granularity == "unit":
                scores[name] = weight.norm(dim=1).masked_fill(~kept.any(dim=1), -1)
            else:
                scores[name] = weight.abs().masked_fill(~kept, -1)
        return {granularity: scores}


class OneShot(_OneGranularity):
    """Pruning once, before training, by magnitude: what prune-and-fine-tune does from stored weights (`init=`).

    Args:
        sparsity: the fraction of the members that are removed when it attaches; 0: only what is zero already stays so.
        granularity: a choice of `prune.granularity`, or a mapping with its parameters.
        scope: what is compared with what, see `runner.pruning.ranking.Ranking`.
    """

    def __init__(
        self, sparsity: float = 0.0, granularity: str | Mapping[str, Any] = "weight", scope: str = "layer"
    ) -> None:
        super().__init__({})
        self.sparsity = fraction("sparsity", sparsity)
        self.granularity, self.granularities = find_granularity(granularity)
        self.scope = one_of("scope", scope, SCOPES)

    def attach(self, model: nn.Module, layers: Iterable[str] | None = None, example: Any = None) -> None:
        """As `Variant.attach`, after pruning the model as it is now."""
        self.check_detached()
        members = self.granularity.members(model, layers, example)
        masks = members.masks(rank(members, members.magnitude(), self.scope).pruned(self.sparsity))
        self.removed = {name: (weight == 0) | masks[name] for name, weight in members.weights.items()}
        super().attach(model)


class Masked(_OneGranularity):
    """The fixed mask of `run ticket`; set `removed` before it attaches.

    Its configuration says where the mask and the first weights come from, so that runs which differ in it are different
    runs; the mask itself is given to it.

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
        super().__init__({})
        one_of("granularity", granularity, names("granularity"))
        one_of("scores", scores, names("criterion"))
        one_of("weights", weights, ("rewound", "fresh", "final"))
        self.granularities = (granularity,)
        self.sparsity = fraction("sparsity", sparsity)

    def attach(self, model: nn.Module, layers: Iterable[str] | None = None, example: Any = None) -> None:
        """As `FixedMask`, whose masks `run ticket` finds."""
        if not self.removed:
            raise ValueError("it has no mask to train with; run ticket FOLDER finds one")
        super().attach(model, layers, example)
