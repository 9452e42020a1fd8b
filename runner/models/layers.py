"""The layers and features of any nn.Module that are offered to dropout and pruning."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from torch import Tensor, nn

from runner.models.computation import computation_order

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_ATTENTION = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")


class AttentionProjections(nn.Module):
    """The query, key and value projections that an nn.MultiheadAttention holds itself instead of in layers.

    They are offered under the name of the parameter, such as `self_attn.in_proj_weight`.

    Args:
        attention: the module that holds them.
        parameter: name of the weight in this module.
    """

    def __init__(self, attention: nn.MultiheadAttention, parameter: str) -> None:
        super().__init__()
        self.attention = attention
        self.parameter = parameter
        # One matrix for each head of the queries, the keys and the values.
        self.matrices = attention.num_heads * (3 if parameter == "in_proj_weight" else 1)

    @property
    def weight(self) -> Tensor:
        return getattr(self.attention, self.parameter)


def prunable_layers(model: nn.Module, names: Iterable[str] | None = None, example: Any = None) -> dict[str, nn.Module]:
    """Return the layers whose weights are offered to dropout and pruning, by name, in the order of registration.

    These are convolutions, linear layers and the projections of nn.MultiheadAttention, but not the first convolution
    (the stem) and the last layer (the one that produces the logits), which is the paper's rule (section 3: "all weight
    matrices except those leading to the logits"). Other modules, such as recurrent layers, are left alone.

    First and last refer to the order of computation, which is known if an example is given. Otherwise, the order of
    registration is used. Names take precedence over both, and so does a list in the model's attribute `prunable`.
    Transposed convolutions are offered only if they are named.

    Args:
        names: names of the layers to offer, instead of those given by the rule.
        example: an input of the model: a tensor, a tuple of positional arguments or a mapping of keyword arguments. The
            model is run on it once, in evaluation mode and without gradients.

    Raises:
        ValueError: a name is not in the model, a named layer has no weight matrix or its filters can't be separated, or
            nothing is prunable.
    """
    if names is None:
        names = getattr(model, "prunable", None)
    if names is None:
        names = _by_rule(model, example)
    modules = dict(model.named_modules())
    chosen = {name: _layer(model, modules, name) for name in names}
    if not chosen:
        raise ValueError(f"{type(model).__name__} has no prunable layer besides its stem and logits; name the layers")
    return chosen


def parameter_of(layer: nn.Module) -> tuple[nn.Module, str]:
    """Return the module that holds a prunable layer's weight, and the weight's name in it."""
    return (layer.attention, layer.parameter) if isinstance(layer, AttentionProjections) else (layer, "weight")


def filters_first(layer: nn.Module, tensor: Tensor) -> Tensor:
    """Return a view, with filters in dim 0, of a tensor with the shape of the layer's weight.

    Filters are in dim 0 of every weight except a transposed convolution's, which has them in dim 1. Applying the
    function twice restores the original shape.
    """
    return tensor.transpose(0, 1) if isinstance(layer, _TRANSPOSED) else tensor


def _layer(model: nn.Module, modules: Mapping[str, nn.Module], name: str) -> nn.Module:
    """Return a layer by its name; for errors, see `prunable_layers`."""
    holder, _, last = name.rpartition(".")
    if last in _ATTENTION and isinstance(attention := modules.get(holder), nn.MultiheadAttention):
        layer: nn.Module = AttentionProjections(attention, last)
    elif name in modules:
        layer = modules[name]
    else:
        near = get_close_matches(name, [*modules, *_matrices(model)], n=1)
        raise ValueError(f"layer {name!r} is not in the model" + (f"; did you mean {near[0]!r}?" if near else ""))
    if isinstance(layer, nn.MultiheadAttention):
        inside = [other for other in _matrices(model) if other.startswith(f"{name}.")]
        raise ValueError(f"layer {name!r} is an nn.MultiheadAttention; name its parts: {', '.join(inside)}")
    weight = getattr(layer, "weight", None)
    if weight is None or weight.dim() < 2:
        raise ValueError(f"layer {name!r} has no weight matrix")
    if isinstance(layer, _TRANSPOSED) and layer.groups > 1:
        raise ValueError(f"layer {name!r} is a grouped transposed convolution, whose filters can't be separated")
    return layer


def _matrices(model: nn.Module) -> dict[str, nn.Module]:
    """Return all convolutions, linear layers and attention projections, in the order of registration."""
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        if isinstance(module, (*_CONVOLUTIONS, nn.Linear)):
            found[name] = module
        elif isinstance(module, nn.MultiheadAttention):
            held = [parameter for parameter in _ATTENTION if getattr(module, parameter) is not None]
            prefix = f"{name}." if name else ""
            found |= {prefix + parameter: AttentionProjections(module, parameter) for parameter in held}
    return found


def matrix_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return all convolutions (also transposed), linear layers, attention projections and embeddings, by name."""
    more = {n: m for n, m in model.named_modules() if isinstance(m, (*_TRANSPOSED, nn.Embedding))}
    return _matrices(model) | more


def _by_rule(model: nn.Module, example: Any) -> list[str]:
    matrices = _matrices(model)
    uses: list[tuple[str, ...]] = [(name,) for name in matrices]
    if example is not None:
        uses = computation_order(model, {name: parameter_of(layer) for name, layer in matrices.items()}, example)
    convolutions = [names for names in uses if any(isinstance(matrices[name], _CONVOLUTIONS) for name in names)]
    left_out = {name for names in (*convolutions[:1], *uses[-1:]) for name in names}
    return [name for name in matrices if name not in left_out]


def matrices_in(layer: nn.Module) -> int:
    """Return the number of matrices stacked along dim 0 of a layer's weight, i.e. the heads of an attention projection.

    Units are ranked within each matrix: "each head of each of the inputs has its own matrix" (paper, on the
    Transformer). A layer declares the number in its attribute `matrices`.
    """
    return int(getattr(layer, "matrices", 1))


@dataclass(frozen=True)
class FeaturePlace:
    """Features inside a model that can be cut; they are produced by one module and read by another.

    Cutting feature c is equivalent to `consumer.weight[:, c] = 0`.

    Args:
        consumer: name of the module that reads the features, a convolution or a linear layer.
        producer: name of the module whose filters produce the features, one filter per feature.
        dim: the features' dimension in the consumer's input: 1 for convolutions, -1 for linear layers.
    """

    consumer: str
    producer: str
    dim: int


def feature_places(model: nn.Module) -> tuple[FeaturePlace, ...]:
    """Return the places in a model's attribute `feature_places`; none if it has no such attribute."""
    return tuple(getattr(model, "feature_places", ()))


def parameter_count(model: nn.Module) -> int:
    """Return the number of trainable parameters; works on the meta device."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
