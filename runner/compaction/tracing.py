"""Channels followed through every operation of one forward pass.

In inference mode a TorchDispatchMode sees composite operations (linear, conv2d, flatten, …) whole. Beside each
activation a tensor of the same shape is kept that holds the channel of every element. Operations that only move data
are applied to that tensor as they are, so that transposing, slicing and concatenating need no rules of their own.
"""

from collections import Counter
from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from runner.compaction.coupling import FIXED, Carrier, Channels, Coupling, Heads, Layer, Step
from runner.compaction.operations import COPIES, KINDS, RESHAPES
from runner.models.layers import matrices_in


def find_coupling(model: nn.Module, example: Sequence[Tensor]) -> Coupling:
    """Trace the model on an example batch.

    Args:
        model: plain, any module; it is run once, in evaluation mode.
        example: the arguments of its forward; at least two examples along dim 0, so that constants can be told from
            values that depend on the input.

    Raises:
        ValueError: a single example.
    """
    if len(example[0]) < 2:
        raise ValueError("example: expected a batch of at least 2, so that constant channels can be recognised")
    tracer = Tracer(model)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.inference_mode(), tracer:
            output = model(*example)
        return tracer.coupling(output)
    finally:
        for module, mode in modes:
            module.training = mode


class Tracer(TorchDispatchMode):
    """Records layers, carriers and heads of a model while it runs; `coupling` then says what belongs together."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.modules = dict(model.named_modules())
        named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
        owners = Counter(id(tensor) for _, tensor in named)
        # Parameter → (module, name); one that several modules share is no module's own.
        self.names = {id(t): name.rpartition(".")[::2] for name, t in named if owners[id(t)] == 1}
        self.tracked: dict[int, Tensor] = {}  # activation → the channel of each element
        self.alive: list[Any] = []  # all outputs, so that no id is given twice
        self.uses: dict[int, list[tuple[str, int]]] = {}  # activation → (what used it, what that made)
        self.made: dict[int, str] = {}  # output of a layer or carrier → its name
        self.heads: dict[str, Tensor] = {}  # layer → a channel for each of its heads, whose features stay together
        self.calls: Counter[str] = Counter()
        self.channels = Channels()
        self.found = Coupling()

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
        for tensor in [tensor for tensor in inputs if tensor is not out]:  # what is changed in place isn't used up
            self.uses.setdefault(id(tensor), []).append((name, id(out)))
        result = rule(name, func, out, args, kwargs) if rule else self._mixes(name, inputs)
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

    def of(self, tensor: Tensor) -> Tensor:
        """The channel of every element; FIXED where nobody has followed it."""
        known = self.tracked.get(id(tensor))
        return torch.zeros(tensor.shape, dtype=torch.int64) if known is None else known

    def _mixes(self, name: str, tensors: Any) -> Tensor | None:
        """Fix what an operation without a rule reads; what it makes isn't followed."""
        for tensor in tensors:
            if isinstance(tensor, Tensor) and id(tensor) in self.tracked:
                self.channels.fix(self.of(tensor), f"goes through {name}")
        return None

    def _read(self, ids: Tensor, dim: int) -> Tensor:
        """The channel at each index of dim; those that share an index become one group."""
        rows = ids.movedim(dim, 0).flatten(1)
        mixed = (rows != rows[:, :1]).any(1)
        for row in rows[mixed]:
            first, *others = row.unique().tolist()
            for other in others:
                self.channels.join(first, other)
        return rows[:, 0]

    def _filters(self, name: str, func: Any, out: Tensor, args: Any, kwargs: Any) -> Tensor | None:
        x, weight = args[0], args[1]
        module, parameter = self.names.get(id(weight), ("", ""))
        convolution = name != "linear"
        dim = 1 if convolution else -1
        inputs, filter_dim = self._read(self.of(x), dim), int(KINDS[name] == "transposed filters")
        groups = _argument(func, args, kwargs, "groups", 1)
        owner = self.modules.get(module)
        flops = 2 * (x if filter_dim else out).numel() // len(x) * weight[0].numel()
        if parameter != "weight" or not isinstance(owner, nn.Linear | nn.modules.conv._ConvNd):
            self.found.other_flops += flops
            return self._mixes(f"{name} with a weight that is no layer's own", [x])
        taps = weight[0, 0].numel()
        applications = (x if filter_dim else out)[:1].movedim(dim, 0)[0].numel()
        made = _range(out, dim)
        self.calls[module] += 1
        if groups > 1:
            if groups == len(inputs) == out.shape[1] and not filter_dim and self.calls[module] == 1:
                channels = self.channels.new(len(inputs))
                for channel, source in zip(channels.tolist(), inputs.tolist(), strict=True):
                    self.channels.join(channel, source)
                self.channels.steps.append(Step(channels, inputs, inputs, module))
                self.found.carriers[module] = Carrier(module, channels, "depthwise", *made, taps, applications)
                return _spread(channels, out, dim)
            if module in self.found.carriers:
                self.channels.fix(self.found.carriers[module].channels, f"{module} is called twice")
            self.found.other_flops += flops
            return self._mixes(f"a convolution of {groups} groups, {module}", [x])
        padded = convolution and any(
            p != 0 if isinstance(p, int) else True for p in tree_leaves(_argument(func, args, kwargs, "padding", 0))
        )
        low, high = _range(x, dim)
        seen = self.found.layers.get(module)
        if seen is not None:  # called again: the same columns read, the same filters make
            self.channels.merge(seen.inputs, inputs)
            seen.low, seen.high = torch.minimum(seen.low, low), torch.maximum(seen.high, high)
            seen.applications += applications
            outputs = seen.outputs
        else:
            outputs = self.channels.new(weight.shape[filter_dim])
            self.found.layers[module] = Layer(
                module, inputs, outputs, filter_dim, taps, applications, padded or bool(filter_dim), low, high, *made
            )
            self.found.layers[module].convolution = convolution
        self.made[id(out)] = module
        return _spread(outputs, out, dim)

    def _norm(self, name: str, func: Any, out: Tensor, args: Any, kwargs: Any) -> Tensor | None:
        x, owned = args[0], [t for t in args[1:5] if isinstance(t, Tensor)]
        modules = {self.names.get(id(tensor), ("", ""))[0] for tensor in owned}
        channels = self._read(self.of(x), 1)
        if len(modules) != 1 or not owned or "" in modules:
            return self._mixes("a BatchNorm whose parameters are not its own", [x])
        (module,) = modules
        self.calls[module] += 1
        if module in self.found.carriers:
            self.channels.fix(self.found.carriers[module].channels, f"{module} is called twice")
            return self._mixes(f"{module}, which is called twice", [x])
        self.found.carriers[module] = Carrier(module, channels, "norm", *_range(out, 1))
        self.made[id(out)] = module
        return _spread(channels, out, 1)

    def _move(self, name: str, func: Any, out: Any, args: Any, kwargs: Any) -> Any:
        x = args[0]
        if name in RESHAPES and out.dim() >= x.dim() and out.shape != x.shape:
            producers = {layer.name for layer in self._producers(self.of(x))}
            if not producers or any(matrices_in(self.modules[name]) == 1 for name in producers):
                return self._mixes(f"reshaping to {tuple(out.shape[1:])}", [x])
        if name in ("view", "_unsafe_view"):
            return self.of(x).reshape(out.shape)
        if name in COPIES:
            return self.of(x)
        replaced = tree_map(lambda t: self.of(t) if isinstance(t, Tensor) and t.is_floating_point() else t, args)
        return func(*replaced, **kwargs)

    def _pass(self, name: str, func: Any, out: Tensor, args: Any, kwargs: Any) -> Tensor | None:
        if any(isinstance(arg, Tensor) and arg.numel() > 1 for arg in args[1:]):
            return self._mixes(name, args)
        return self.of(args[0])

    def _pad(self, name: str, func: Any, out: Tensor, args: Any, kwargs: Any) -> Tensor:
        # Zeros beside channels are nobody's, and stay; zeros around an image belong to its channel.
        amounts, ids = list(args[1]), self.of(args[0])
        around = 2 * max(args[0].dim() - 2, 0)
        if any(amounts[:around]):
            ids = self._read(ids, 1).view([1, -1] + [1] * (out.dim() - 2))
            ids = ids.expand([args[0].shape[0], -1, *out.shape[2:]])
        return torch.nn.functional.pad(ids, [0] * around + amounts[around:], value=FIXED)

    def _combine(self, name: str, func: Any, out: Tensor, args: Any, kwargs: Any) -> Tensor | None:
        tensors = [a for a in args[:2] if isinstance(a, Tensor) and a.numel() > 1]
        ids = [self.of(tensor).expand(out.shape) for tensor in tensors]
        if len(ids) < 2 or args[0] is args[1]:
            return ids[0] if ids else None
        if any(id(tensor) not in self.tracked for tensor in tensors):
            if name == "mul" and (kept := self._same_for_heads(tensors)) is not None:
                return kept
            return self._mixes(f"{name} with a tensor that no layer makes", tensors)
        return self.channels.merge(ids[0], ids[1], factors=tensors if name == "mul" else ())

    def _same_for_heads(self, tensors: Sequence[Tensor]) -> Tensor | None:
        """The channels of queries or keys (N, heads, T, …) times what is the same for all heads, as rotary positions.

        It is as wide as a head, so that a head's features stay or go together.
        """
        x, other = sorted(tensors, key=lambda tensor: id(tensor) not in self.tracked)
        producers = self._producers(self.of(x))
        if x.dim() != 4 or len(producers) != 1 or (other.dim() > 2 and other.shape[-3] > 1):
            return None
        heads = matrices_in(self.modules[producers[0].name])
        if heads != x.shape[1] or other.expand_as(x).shape != x.shape:
            return None
        name = producers[0].name
        if name not in self.heads:
            first, *others = producers[0].outputs.view(heads, -1).unbind(1)
            self.heads[name] = reduce(self.channels.merge, others, first)
        return self.heads[name][None, :, None, None].expand(x.shape)

    def _pool(self, name: str, func: Any, out: Any, args: Any, kwargs: Any) -> Any:
        channels = self._read(self.of(args[0]), 1)
        if isinstance(out, tuple):
            return [_spread(channels, out[0], 1), *[None] * (len(out) - 1)]
        return _spread(channels, out, 1)

    def _reduce(self, name: str, func: Any, out: Tensor, args: Any, kwargs: Any) -> Tensor | None:
        ids = self.of(args[0])
        dims = args[1] if len(args) > 1 else kwargs.get("dim")
        keep = args[2] if len(args) > 2 else kwargs.get("keepdim", False)
        if dims is None:
            return self._mixes(name, [args[0]])
        low, high = ids.amin(dims, keep), ids.amax(dims, keep)
        return low if torch.equal(low, high) else self._mixes(name, [args[0]])

    def _attend(self, name: str, func: Any, out: Tensor, args: Any, kwargs: Any) -> Tensor | None:
        q, k, v = args[:3]
        producers = [self._producers(self.of(tensor)) for tensor in (q, k, v)]
        names = [layer.name for layers in producers for layer in layers]
        parents = {name.rpartition(".")[0] for name in names}
        heads = {matrices_in(self.modules[name]) for name in names}
        scale = _argument(func, args, kwargs, "scale", None)
        if [len(p) for p in producers] != [1, 1, 1] or len(parents) != 1 or heads != {q.shape[1]} or scale is not None:
            return self._mixes("attention", [q, k, v])
        queries, keys, values = (self.of(tensor)[0, :, 0] for tensor in (q, k, v))
        self.channels.merge(queries, keys)
        query, key, value = names
        (parent,) = parents
        self.found.heads.append(Heads(parent, query, key, value, q.shape[1], q.shape[2], k.shape[2]))
        return values[None, :, None].expand(out.shape)

    def _producers(self, ids: Tensor) -> list[Layer]:
        wanted = ids.unique()
        made = {name: layer.outputs for name, layer in self.found.layers.items()}
        made |= {name: torch.cat([made[name], heads]) for name, heads in self.heads.items()}
        return [self.found.layers[name] for name, channels in made.items() if torch.isin(channels, wanted).any()]

    def coupling(self, output: Any) -> Coupling:
        """What was found, with the network's output fixed."""
        outputs = {id(tensor) for tensor in tree_leaves(output)}
        for key, ids in self.tracked.items():
            # What nothing reads may be an output, too, in a container that PyTorch doesn't know.
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
        """What reads a layer's output: a BatchNorm alone, a sum, or one behind the other."""
        uses = self.uses.get(out, [])
        if self.calls[layer.name] > 1 or any(self.calls[self.made.get(made, "")] > 1 for _, made in uses):
            return
        if len(uses) == 1 and uses[0][0] == "batch_norm" and uses[0][1] in self.made:
            layer.norm = self.made[uses[0][1]]
            uses = self.uses.get(uses[0][1], [])
        layer.place = (layer.norm or layer.name) if [use for use, _ in uses] == ["add"] else None


def _argument(func: Any, args: Any, kwargs: Any, name: str, default: Any) -> Any:
    """An operation's argument by its name in the schema."""
    names = [argument.name for argument in func._schema.arguments]
    if name in kwargs:
        return kwargs[name]
    index = names.index(name) if name in names else len(args)
    return args[index] if index < len(args) else default


def _spread(channels: Tensor, out: Tensor, dim: int) -> Tensor:
    """(C,) channels along a dimension of an output."""
    shape = [1] * out.dim()
    shape[dim] = len(channels)
    return channels.view(shape).expand(out.shape)


def _range(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    rows = x.detach().movedim(dim, 0).flatten(1)
    return rows.amin(1).cpu(), rows.amax(1).cpu()
