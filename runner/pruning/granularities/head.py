"""Attention heads: Michel et al. (2019), "Are sixteen heads really better than one?"."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from runner.models.heads import AttentionHeads, attention_heads
from runner.pruning.granularities.base import Members, Rows


class HeadMembers(Members):
    """Heads, ranked within each attention module, by default by the L2 norm of all their weights.

    A head consists of its filters in the projections of queries, keys and values, and of the columns of the output
    projection that read it. Scores are tensors of shape (heads,) under the output projection's name.
    """

    def __init__(self, model: nn.Module, attentions: Sequence[AttentionHeads]) -> None:
        if not attentions:
            raise ValueError(f"{type(model).__name__} has no attention whose heads are known")
        super().__init__("head", {name: x.layer(model, name) for x in attentions for name in x.names})
        self.attentions = {x.output: x for x in attentions}

    def gather(self, tensors: Mapping[str, Tensor]) -> Rows:
        found = {}
        for name, attention in self.attentions.items():
            parts = [tensors[of].contiguous().view(count, attention.count, -1) for of, count in attention.projections]
            columns = tensors[name].transpose(0, 1).contiguous().view(1, attention.count, -1)
            found[name] = torch.cat([part.transpose(0, 1).flatten(1) for part in (*parts, columns)], dim=1)[None]
        return found

    def magnitude(self) -> Rows:
        return self.norms()

    def rows(self, scores: Mapping[str, Tensor]) -> Rows:
        return {name: scores[name].view(1, -1) for name in self.attentions}

    def masks(self, removed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        masks = {name: torch.zeros_like(weight, dtype=torch.bool) for name, weight in self.weights.items()}
        for name, attention in self.attentions.items():
            gone = removed[name].flatten()
            for of, count in attention.projections:
                masks[of] |= gone.repeat_interleave(len(masks[of]) // (count * attention.count)).repeat(count)[:, None]
            masks[name] |= gone.repeat_interleave(masks[name].shape[1] // attention.count)
        return masks

    def sparsity(self) -> float:
        alive = [part.ne(0).any(dim=-1) for part in self.gather(self.weights).values()]
        return 1 - sum(int(a.sum()) for a in alive) / sum(a.numel() for a in alive)

    def entries(self) -> dict[str, int]:
        return {name: part.shape[-1] for name, part in self.gather(self.weights).items()}


class Head:
    """The heads of all attention modules of a model."""

    def members(self, model: nn.Module, layers: Iterable[str] | None = None, example: Any = None) -> HeadMembers:
        """Return the model's heads.

        Raises:
            ValueError: the model has no known heads, or layers are named.
        """
        if layers is not None:
            raise ValueError("layers apply to weights and filters; heads are removed from all attention layers")
        return HeadMembers(model, attention_heads(model))
