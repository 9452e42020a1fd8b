"""Follow channels through every operation of one forward pass.

In inference mode, a TorchDispatchMode sees composite operations (linear, conv2d, flatten, …) as a whole. For each
activation, a tensor of the same shape holds the channel of every element. Operations that only move data are applied to
that tensor as they are, so transposing, slicing and concatenating need no rules of their own.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from runner.compaction.coupling import FIXED, Carrier, Coupling, Layer, Step
from runner.compaction.followed import Followed
from runner.compaction.heads import attention_channels, same_for_heads
from runner.compaction.operations import COPIES, KINDS, RESHAPES, argument, spread, value_range
from runner.models.layers import matrices_in
from runner.models.modes import evaluation_mode


def find_coupling(model: nn.Module, example: Sequence[Tensor]) -> Coupling:
    """Trace the model on an example batch and return its coupling.

    Args:
        model: a plain model of any class; it is run once, in evaluation mode.
        example: arguments of the model's `forward`, with at least two examples along dim 0, so that constants can be
            distinguished from values that depend on the input.

    Raises:
        ValueError: there are fewer than two examples.
    """
    if len(example[0]) < 2:
        raise ValueError("example: expected a batch of at least 2, so that constant channels can be recognised")
    tracer = Tracer(model)
    with evaluation_mode(model), torch.inference_mode(), tracer:
        output = model(*example)
    return tracer.coupling(output)


class Tracer(TorchDispatchMode, Followed):
    """Records the layers, carriers and heads of a model while it runs; `coupling` then returns the result."""

    def __init__(self, model: nn.Module) -> None:
        TorchDispatchMode.__init__(self)
        Followed.__init__(self, model)
        self.alive: list[Any] = []  # all outputs, so that no id is reused
        self.uses: dict[int, list[tuple[str, int]]] = {}  # activation → (operation that uses it, its output)
        self.made: dict[int, str] = {}  # output of a layer or carrier → its name
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        name = name if name.startswith("_") else name.rstrip("_")  # relu_ is relu
        inputs = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor) and id(t) in self.tracked]
        rule = self._rule(KINDS.get(name))
        if not inputs and rule != self._filters:
            return func(*args, **kwargs)
        if rule is None:
            with self:
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        out = func(*args, **kwargs)
        self.alive.append(out)
        for tensor in [tensor for tensor in inputs if tensor is not out]:  # an in-place change isn't a use
            self.uses.setdefault(id(tensor), []).append((name, id(out)))
        result = rule(name, func, out, args, kwargs) if rule else self.mixes(name, inputs)
        outs, results = (out, result) if isinstance(out, list | tuple) else ([out], [result])
        for tensor, ids in zip(outs, results or [None] * len(outs), strict=True):
            self.tracked.pop(id(tensor), None)
            if ids is not None:
                self.tracked[id(tensor)] = ids
        return out

    def _rule(self, kind: str | None) -> Any:
        return {
            "filters": self._filters,
            "transposed filters": self._filters,
            "move": self._move,
            "elementwise": self._pass,
            "combine": self._combine,
            "pool": self._pool,
            "reduce": self._reduce,
            "norm": self._norm,
            "pad": self._pad,
            "attend": self._attend,
        }.get(kind or "")

    def _filters(self, name: str, func: Any, out: Tensor, args: Any, kwargs: Any) -> Tensor | None:
        x, weight = args[0], args[1]
        module, parameter = self.names.get(id(weight), ("", ""))
        convolution = name != "linear"
        dim = 1 if convolution else -1
        inputs, filter_dim = self.read(self.of(x), dim), int(KINDS[name] == "transposed filters")
        groups = argument(func, args, kwargs, "groups", 1)
        owner = self.modules.get(module)
        flops = 2 * (x if filter_dim else out).numel() // len(x) * weight[0].numel()
        if parameter != "weight" or not isinstance(owner, nn.Linear | nn.modules.conv._ConvNd):
            self.found.other_flops += flops
            return self.mixes(f"{name} with a weight that belongs to no layer", [x])
        taps = weight[0, 0].numel()
        applications = (x if filter_dim else out)[:1].movedim(dim, 0)[0].numel()
        made = value_range(out, dim)
        self.calls[module] += 1
        if groups > 1:
            if groups == len(inputs) == out.shape[1] and not filter_dim and self.calls[module] == 1:
                channels = self.channels.new(len(inputs))
                for channel, source in zip(channels.tolist(), inputs.tolist(), strict=True):
                    self.channels.join(channel, source)
                self.channels.steps.append(Step(channels, inputs, inputs, module))
                self.found.carriers[module] = Carrier(module, channels, "depthwise", *made, taps, applications)
                return spread(channels, out, dim)
            if module in self.found.carriers:
                self.channels.fix(self.found.carriers[module].channels, f"{module} is called twice")
            self.found.other_flops += flops
            return self.mixes(f"a convolution of {groups} groups, {module}", [x])
        padded = convolution and any(
            p != 0 if isinstance(p, int) else True for p in tree_leaves(argument(func, args, kwargs, "padding", 0))
        )
        low, high = value_range(x, dim)
        seen = self.found.layers.get(module)
        if seen is not None:  # called again, with the same columns and filters
            self.channels.merge(seen.inputs, inputs)
            seen.low, seen.high = torch.minimum(seen.low, low), torch.maximum(seen.high, high)
            seen.applications += applications
            outputs = seen.outputs
        else:
            outputs = self.channels.new(weight.shape[filter_dim])
            self.found.layers[module] = Layer(
                name=module,
                inputs=inputs,
                outputs=outputs,
                filter_dim=filter_dim,
                taps=taps,
                applications=applications,
                padded=padded or bool(filter_dim),
                low=low,
                high=high,
                made_low=made[0],
                made_high=made[1],
                convolution=convolution,
            )
        self.made[id(out)] = module
        return spread(outputs, out, dim)

    def _norm(self, name: str, func: Any, out: Tensor, args: Any, kwargs: Any) -> Tensor | None:
        x, owned = args[0], [t for t in args[1:5] if isinstance(t, Tensor)]
        modules = {self.names.get(id(tensor), ("", ""))[0] for tensor in owned}
        channels = self.read(self.of(x), 1)
        if len(modules) != 1 or not owned or "" in modules:
            return self.mixes("a BatchNorm without parameters of its own", [x])
        (module,) = modules
        self.calls[module] += 1
        if module in self.found.carriers:
            self.channels.fix(self.found.carriers[module].channels, f"{module} is called twice")
            return self.mixes(f"{module}, which is called twice", [x])
        self.found.carriers[module] = Carrier(module, channels, "norm", *value_range(out, 1))
        self.made[id(out)] = module
        return spread(channels, out, 1)

    def _move(self, name: str, func: Any, out: Any, args: Any, kwargs: Any) -> Any:
        x = args[0]
        if name in RESHAPES and out.dim() >= x.dim() and out.shape != x.shape:
            producers = {layer.name for layer in self.producers(self.of(x))}
            if not producers or any(matrices_in(self.modules[name]) == 1 for name in producers):
                return self.mixes(f"reshaping to {tuple(out.shape[1:])}", [x])
        if name in ("view", "_unsafe_view"):
            return self.of(x).reshape(out.shape)
        if name in COPIES:
            return self.of(x)
        replaced = tree_map(lambda t: self.of(t) if isinstance(t, Tensor) and t.is_floating_point() else t, args)
        return func(*replaced, **kwargs)

    def _pass(self, name: str, func: Any, out: Tensor, args: Any, kwargs: Any) -> Tensor | None:
        if any(isinstance(arg, Tensor) and arg.numel() > 1 for arg in args[1:]):
            return self.mixes(name, args)
        return self.of(args[0])

    def _pad(self, name: str, func: Any, out: Tensor, args: Any, kwargs: Any) -> Tensor:
        # Zeros beside channels belong to no channel and are kept; zeros around an image belong to its channel.
        amounts, ids = list(args[1]), self.of(args[0])
        around = 2 * max(args[0].dim() - 2, 0)
        if any(amounts[:around]):
            ids = self.read(ids, 1).view([1, -1] + [1] * (out.dim() - 2))
            ids = ids.expand([args[0].shape[0], -1, *out.shape[2:]])
        return torch.nn.functional.pad(ids, [0] * around + amounts[around:], value=FIXED)

    def _combine(self, name: str, func: Any, out: Tensor, args: Any, kwargs: Any) -> Tensor | None:
        tensors = [a for a in args[:2] if isinstance(a, Tensor) and a.numel() > 1]
        ids = [self.of(tensor).expand(out.shape) for tensor in tensors]
        if len(ids) < 2 or args[0] is args[1]:
            return ids[0] if ids else None
        if any(id(tensor) not in self.tracked for tensor in tensors):
            if name == "mul" and (kept := same_for_heads(self, tensors)) is not None:
                return kept
            return self.mixes(f"{name} with a tensor that no layer outputs", tensors)
        return self.channels.merge(ids[0], ids[1], factors=tensors if name == "mul" else ())

    def _pool(self, name: str, func: Any, out: Any, args: Any, kwargs: Any) -> Any:
        channels = self.read(self.of(args[0]), 1)
        if isinstance(out, tuple):
            return [spread(channels, out[0], 1), *[None] * (len(out) - 1)]
        return spread(channels, out, 1)

    def _reduce(self, name: str, func: Any, out: Tensor, args: Any, kwargs: Any) -> Tensor | None:
        ids = self.of(args[0])
        dims = args[1] if len(args) > 1 else kwargs.get("dim")
        keep = args[2] if len(args) > 2 else kwargs.get("keepdim", False)
        if dims is None:
            return self.mixes(name, [args[0]])
        low, high = ids.amin(dims, keep), ids.amax(dims, keep)
        return low if torch.equal(low, high) else self.mixes(name, [args[0]])

    def _attend(self, name: str, func: Any, out: Tensor, args: Any, kwargs: Any) -> Tensor | None:
        plain = argument(func, args, kwargs, "scale", None) is None
        values = attention_channels(self, *args[:3]) if plain else None
        return self.mixes("attention", args[:3]) if values is None else values[None, :, None].expand(out.shape)

    def coupling(self, output: Any) -> Coupling:
        """Return the recorded coupling, with the network's output fixed."""
        outputs = {id(tensor) for tensor in tree_leaves(output)}
        for key, ids in self.tracked.items():
            # A tensor that nothing reads may also be an output, in a container that PyTorch doesn't know.
            if key in outputs or key not in self.uses:
                self.channels.fix(ids, "the network's output")
        self.channels.explain()
        self.found.group = self.channels.groups()
        self.found.steps = self.channels.steps
        self.found.reasons = self.channels.why
        for out, name in self.made.items():
            if name in self.found.layers:
                self._follow(self.found.layers[name], out)
        return self.found

    def _follow(self, layer: Layer, out: int) -> None:
        """Find what reads a layer's output: a BatchNorm alone, a sum, or a BatchNorm followed by a sum."""
        uses = self.uses.get(out, [])
        if self.calls[layer.name] > 1 or any(self.calls[self.made.get(made, "")] > 1 for _, made in uses):
            return
        if len(uses) == 1 and uses[0][0] == "batch_norm" and uses[0][1] in self.made:
            layer.norm = self.made[uses[0][1]]
            uses = self.uses.get(uses[0][1], [])
        layer.place = (layer.norm or layer.name) if [use for use, _ in uses] == ["add"] else None
