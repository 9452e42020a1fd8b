"""Training with a fixed mask that removes weights, filters or features permanently.

Masked weights are zero when training begins and remain zero.
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
    """Keep pruned weights at zero while training continues.

    Every forward pass multiplies the weights by the mask. Removed weights therefore get no gradient, and changes that
    the optimizer makes to them, for example by momentum, have no effect. They are zero when the variant is detached::

        kept = FixedMask(prune(model, 0.9))
        kept.attach(model)  # fine-tune as usual, with a new optimizer or the old one
        kept.detach()

    Args:
        removed: a mask for each layer name, as returned by `runner.pruning.apply.prune`. Masks broadcast over the
            layers' weights and are True for removed weights.
    """

    baked = True

    def __init__(self, removed: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.removed = removed

    def attach(self, model: nn.Module, layers: Iterable[str] | None = None, example: Any = None) -> None:
        """Attach the masks to their layers, and set the removed entries of the raw weights to zero.

        Raises:
            ValueError: there are no masks, the variant is already attached, or a layer is not in the model.
        """
        if not self.removed:
            raise ValueError("there are no masks to keep")
        super().attach(model, self.removed if layers is None else layers)

    def check_layer(self, name: str, layer: nn.Module) -> None:
        super().check_layer(name, layer)
        if name not in self.removed:
            raise ValueError(f"there is no mask for layer {name!r}")
        mask, weight = self.removed[name], layer.weight
        assert isinstance(weight, Tensor)
        if mask.dim() != weight.dim() or any(m not in (1, w) for m, w in zip(mask.shape, weight.shape, strict=True)):
            raise ValueError(
                f"the mask of layer {name!r} has shape {tuple(mask.shape)}; "
                f"expected one that broadcasts over {tuple(weight.shape)}"
            )

    def parametrization(self, weight: Tensor) -> nn.Module:
        return Mask(weight)

    @torch.no_grad()
    def attach_layer(self, name: str, layer: nn.Module) -> None:
        super().attach_layer(name, layer)
        kept = self.parametrization_in(layer).kept
        kept.copy_(~filters_first(layer, self.removed[name].to(kept.device)))
        self.raw_weight(layer).mul_(kept)


class _OneGranularity(FixedMask):
    """A mask for a single granularity, the only one in `granularities`."""

    def scores(self) -> Scores:
        """Return magnitudes, with masked members below all others so that further pruning never restores them.

        Only weights and filters have scores. Removed members of other granularities have magnitude zero anyway.
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
    """One-shot magnitude pruning before training, e.g. to prune and fine-tune stored weights (`init=`).

    Args:
        sparsity: the fraction of the members that is removed when the variant is attached. Weights that are already
            zero are always kept at zero, even if it is 0.
        granularity: a choice of `prune.granularity`, or a mapping with its parameters.
        scope: which members are compared with each other; see `runner.pruning.ranking.Ranking`.
    """

    def __init__(
        self, sparsity: float = 0.0, granularity: str | Mapping[str, Any] = "weight", scope: str = "layer"
    ) -> None:
        super().__init__({})
        self.sparsity = fraction("sparsity", sparsity)
        self.granularity, self.granularities = find_granularity(granularity)
        self.scope = one_of("scope", scope, SCOPES)

    def attach(self, model: nn.Module, layers: Iterable[str] | None = None, example: Any = None) -> None:
        """Prune the model's current weights, then attach; see `Variant.attach`."""
        self.check_detached()
        members = self.granularity.members(model, layers, example)
        masks = members.masks(rank(members, members.magnitude(), self.scope).pruned(self.sparsity))
        self.removed = {name: (weight == 0) | masks[name] for name, weight in members.weights.items()}
        super().attach(model)


class Masked(_OneGranularity):
    """The fixed mask of `run ticket`, which sets `removed` before it attaches the variant.

    The parameters only record where the mask and the initial weights come from, so that runs with different masks have
    different configurations. The mask itself is not a parameter.

    Args:
        source: the run whose weights determined the mask, in the form `<dropout>-<8 digits of its hash>`, or None.
        granularity: the kind of members that the mask removes, such as "weight", "unit" or "feature".
        sparsity: the fraction of every filter's weights, of every layer's filters or of the features at every place
            that the mask removes.
        scores: the scores that ranked the members: the source's "own", "magnitude" or "random".
        weights: the weights that training begins with: the source's "rewound" or "final" ones, or "fresh" initial ones.
        rewind: the training step to which the weights were rewound and from which training continues.
        round: the number of times that the network has been pruned, in iterative pruning.
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
        """Attach the masks set by `run ticket`; see `FixedMask.attach`."""
        if not self.removed:
            raise ValueError("it has no mask to train with; run ticket FOLDER finds one")
        super().attach(model, layers, example)
