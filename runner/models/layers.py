"""Which layers, and which features, of any nn.Module are offered to dropout and pruning."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from torch import nn

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def prunable_layers(model: nn.Module, names: Iterable[str] | None = None) -> dict[str, nn.Module]:
    """The prunable layers by name, in the order in which the model registers them.

    Without names: every convolution and linear layer but the first convolution (the stem) and the last layer (the one
    that makes the logits), the paper's rule (section 3: "all weight matrices except those leading to the
    logits"). A model can declare its own list as an attribute `prunable`; names given here go before both.

    Raises:
        ValueError: a name is not in the model or has no weight matrix, or nothing is prunable.
    """
    modules = dict(model.named_modules())
    if names is None:
        names = getattr(model, "prunable", None)
    if names is None:
        names = _by_rule(modules)
    chosen = {}
    for name in names:
        if name not in modules:
            near = get_close_matches(name, modules, n=1)
            raise ValueError(f"layer {name!r} is not in the model" + (f"; did you mean {near[0]!r}?" if near else ""))
        weight = getattr(modules[name], "weight", None)
        if weight is None or weight.dim() < 2:
            raise ValueError(f"layer {name!r} has no weight matrix")
        chosen[name] = modules[name]
    if not chosen:
        raise ValueError(f"{type(model).__name__} has no prunable layer besides its stem and logits; name some")
    return chosen


def _by_rule(modules: dict[str, nn.Module]) -> list[str]:
    matrices = [name for name, module in modules.items() if isinstance(module, (*_CONVOLUTIONS, nn.Linear))]
    stem = next((name for name in matrices if isinstance(modules[name], _CONVOLUTIONS)), None)
    return [name for name in matrices[:-1] if name != stem]


def matrices_in(layer: nn.Module) -> int:
    """How many matrices a layer's weight is, one above the other along dim 0: the heads of an attention projection.

    Units are ranked within each: "each head of each of the inputs has its own matrix" (paper, on the Transformer). A
    layer says it by an attribute `matrices`.
    """
    return int(getattr(layer, "matrices", 1))


@dataclass(frozen=True)
class FeaturePlace:
    """Inner features that can be cut: the input of one module, which another one makes.

    Cutting feature c leaves the same network as `consumer.weight[:, c] = 0`.

    Args:
        consumer: name of the module whose input they are, a convolution or a linear layer.
        producer: name of the module whose filters make them, one each.
        dim: the features' dimension in the consumer's input: 1 for convolutions, -1 for linear layers.
    """

    consumer: str
    producer: str
    dim: int


def feature_places(model: nn.Module) -> tuple[FeaturePlace, ...]:
    """The places that a model declares, as its attribute `feature_places`; none where it has no such attribute."""
    return tuple(getattr(model, "feature_places", ()))


def parameter_count(model: nn.Module) -> int:
    """Number of trainable parameters; works on the meta device."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
