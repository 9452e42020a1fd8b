"""The layers that form the heads of a model's attention modules."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from runner.models.attention import Attention
from runner.models.layers import AttentionProjections


@dataclass(frozen=True)
class AttentionHeads:
    """A multi-head attention module.

    Args:
        output: name of the linear layer that reads the heads; each head has the same number of consecutive columns.
        projections: the layers, or parameters of an nn.MultiheadAttention, that produce queries, keys and values. Each
            is a tuple of its name and the number of blocks stacked in its dim 0, with the filters of each block ordered
            by head: 3 if queries, keys and values are stacked, otherwise 1.
        count: number of heads.
    """

    output: str
    projections: tuple[tuple[str, int], ...]
    count: int

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all layers."""
        return (*(name for name, _ in self.projections), self.output)

    def layer(self, model: nn.Module, name: str) -> nn.Module:
        """Return one of the layers by its name."""
        holder, _, last = name.rpartition(".")
        if isinstance(attention := model.get_submodule(holder), nn.MultiheadAttention) and last.endswith("weight"):
            return AttentionProjections(attention, last)
        return model.get_submodule(name)


def attention_heads(model: nn.Module) -> tuple[AttentionHeads, ...]:
    """Return the attention modules in a model's attribute `attention_heads`, or else those of known kinds.

    Known kinds are this package's own attention and PyTorch's nn.MultiheadAttention.
    """
    declared: Iterable[AttentionHeads] | None = getattr(model, "attention_heads", None)
    if declared is not None:
        return tuple(declared)
    found = []
    for name, module in model.named_modules():
        prefix = f"{name}." if name else ""
        if isinstance(module, Attention):
            projections = tuple((f"{prefix}{part}", 1) for part in ("query", "key", "value"))
            found.append(AttentionHeads(f"{prefix}output", projections, module.heads))
        elif isinstance(module, nn.MultiheadAttention):
            if module.in_proj_weight is not None:
                projections = ((f"{prefix}in_proj_weight", 3),)
            else:
                projections = tuple((f"{prefix}{part}_proj_weight", 1) for part in "qkv")
            found.append(AttentionHeads(f"{prefix}out_proj", projections, module.num_heads))
    return tuple(found)
