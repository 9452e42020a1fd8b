"""Elastic files, which store one network that can be loaded at any width.

An elastic file is a safetensors file. Its metadata is JSON that describes how to build the network, the widths at which
BatchNorm was measured, and the shapes of inputs for tracing. Its tensors are those of the whole network (`network.…`),
the order of the features at each place (`order.<consumer>`, those kept longest come first), and BatchNorm's statistics
at each width (`statistics.<number of the width>.…`).
"""

import copy
import json
import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from runner.compaction.cutting import Compact, compact
from runner.compaction.places import find_places
from runner.compaction.saving import architecture_of, assemble, load_compact, stored_tensors
from runner.compaction.structure import Structure
from runner.compaction.tracing import find_coupling
from runner.errors import ConfigError, DamagedRun, first_line
from runner.files import write_bytes
from runner.models.layers import feature_places
from runner.pruning.apply import apply_masks
from runner.pruning.granularities.feature import FeatureMembers
from runner.pruning.ranking import rank

ELASTIC = "elastic.safetensors"
FORMAT = 1
_KEYS = {"format", "architecture", "widths", "inputs", "fold"}
_TYPES = {"float32": torch.float32, "int64": torch.int64}
_MOST_INPUTS, _LARGEST_INPUT, _MOST_EXAMPLES = 4, 2**20, 8  # limits on the memory that an untrusted file can take
_NARROWEST = 1e-6  # leaves one feature at each place

Statistics = Mapping[str, Tensor]  # <BatchNorm>.running_mean and .running_var → (channels,)


@dataclass(frozen=True)
class Elastic:
    """The content of an elastic file.

    Attributes:
        network: the whole network, in evaluation mode, on the CPU.
        order: mapping from the consumer of a place to the indices of its features, with shape (features,); those kept
            longest come first.
        statistics: mapping from width to BatchNorm's statistics at that width. It contains width 1, or is empty if
            nothing was measured.
        inputs: shapes and dtypes of the arguments of `forward`, for two or more examples.
        fold: fold BatchNorm into the preceding layers; see `compact`.
    """

    network: nn.Module
    order: Mapping[str, Tensor]
    statistics: Mapping[float, Statistics]
    inputs: Sequence[tuple[tuple[int, ...], torch.dtype]]
    fold: bool = True

    def at(self, width: float) -> Compact:
        """Cut the network to the first ⌈width · n⌉ of n features at each place.

        The other features are zero in the result's `reference`. The elastic network is not modified.

        Args:
            width: in (0, 1].

        Raises:
            ConfigError: the width is out of range.
        """
        if not 0 < width <= 1:
            raise ConfigError(f"width={width:g}: expected a number above 0, at most 1")
        pruned = narrowed(self.network, self.order, width)
        found = interpolated(self.statistics, width)
        example = _example(self.inputs)
        return compact(pruned, example, recalibrate=lambda model: load_statistics(model, found), fold=self.fold)


def narrowed(network: nn.Module, order: Mapping[str, Tensor], width: float) -> nn.Module:
    """Return a copy of the network in which all but the first ⌈width · n⌉ of n features at each place are zero."""
    narrow = copy.deepcopy(network)
    members = FeatureMembers(narrow, tuple(order))
    # The last feature in the order is removed first.
    scores = {name: (-features.argsort()).float() for name, features in order.items()}
    masks = members.masks(rank(members, members.rows(scores), "layer").pruned(1 - max(width, _NARROWEST)))
    apply_masks(members.weights, members.weights, masks)
    return narrow


def statistics_of(network: nn.Module) -> dict[str, Tensor]:
    """Return copies of BatchNorm's statistics, by their names in the state dict.

    The mean and variance of channels that have been cleaned (see `cutting.clean`) are returned as 0.
    """
    found = {}
    for name, module in network.named_modules():
        if isinstance(module, _BatchNorm) and module.running_mean is not None:
            for key in ("running_mean", "running_var"):
                value = getattr(module, key).detach().cpu().clone()
                if module.affine:
                    value[((module.weight == 0) & (module.bias == 0)).cpu()] = 0
                found[f"{name}.{key}"] = value
    return found


def load_statistics(network: nn.Module, statistics: Statistics) -> None:
    """Load BatchNorm's statistics in place. Those that are not in `statistics` are left unchanged."""
    network.load_state_dict({**network.state_dict(), **statistics})


def interpolated(statistics: Mapping[float, Statistics], width: float) -> dict[str, Tensor]:
    """Interpolate BatchNorm's statistics linearly between the nearest measured widths below and above.

    Below the smallest measured width, the statistics of that width are used. A channel that the narrower network lacks
    (its statistics are 0) gets those of the wider network.
    """
    widths = sorted(statistics)
    if not widths:
        return {}
    above = bisect_left(widths, width)  # there is one, because 1 is among them
    high = statistics[widths[above]]
    if above == 0 or widths[above] == width:
        return dict(high)
    low, between = statistics[widths[above - 1]], widths[above] - widths[above - 1]
    share = (width - widths[above - 1]) / between
    found = {}
    for name, value in high.items():
        absent = low[f"{name.rpartition('.')[0]}.running_var"] == 0
        found[name] = torch.where(absent, value, torch.lerp(low[name], value, share))
    return found


def save_elastic(
    file: Path,
    elastic: Elastic,
    class_name: str,
    arguments: Mapping[str, Any],
) -> int:
    """Write an elastic file and return its size in bytes.

    Args:
        class_name, arguments: how to build the network; see `save_compact`.

    Raises:
        ValueError: the class isn't in runner.models, or an argument isn't a plain value.
    """
    widths = sorted(elastic.statistics)
    about = {
        "format": FORMAT,
        "architecture": architecture_of(Structure(), class_name, arguments),
        "widths": widths,
        "inputs": [[list(shape), str(kind).removeprefix("torch.")] for shape, kind in elastic.inputs],
        "fold": elastic.fold,
    }
    tensors = {f"network.{name}": tensor for name, tensor in stored_tensors(elastic.network).items()}
    tensors |= {f"order.{name}": features.to(torch.int32) for name, features in elastic.order.items()}
    for number, width in enumerate(widths):
        found = elastic.statistics[width]
        tensors |= {f"statistics.{number}.{name}": tensor.contiguous() for name, tensor in found.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    content = save(tensors, metadata={"elastic": json.dumps(about, separators=(",", ":"))})
    write_bytes(file, content)
    return len(content)


def load_elastic(file: Path) -> Elastic:
    """Load a file that `save_elastic` wrote. The file may be untrusted; see `load_compact`.

    Raises:
        DamagedRun: the file is missing, damaged, or not an elastic file.
        ForeignRun, ConfigError: as in `load_compact`.
    """
    try:
        with safe_open(file, framework="pt") as stored:
            metadata = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except OSError as error:
        raise DamagedRun(f"{file}: {error.strerror or first_line(error)}") from None
    except SafetensorError as error:
        raise DamagedRun(f"{file} is damaged ({first_line(error)[:100]})") from None
    try:
        about = json.loads(metadata.get("elastic", "null"))
    except (ValueError, RecursionError):
        about = None
    about = {"fold": True, **about} if isinstance(about, dict) else {}  # older files do not say it
    if about.keys() != _KEYS or about["format"] != FORMAT or not isinstance(about["fold"], bool):
        raise DamagedRun(f"{file}: expected an elastic file of format {FORMAT}")
    network = assemble(about["architecture"], _part(tensors, "network."), file, file)
    inputs = _inputs(file, about["inputs"])
    try:
        network(*_example(inputs))
        if not feature_places(network):  # they were also traced when the file was written
            network.feature_places = find_places(find_coupling(network, _example(inputs)))  # type: ignore[assignment]
    except Exception as error:  # untrusted inputs may raise anything
        raise DamagedRun(f"{file}: the network can't be computed ({first_line(error)[:100]})") from None
    statistics = _statistics(file, about["widths"], tensors, statistics_of(network))
    order = _part(tensors, "order.")
    _check_order(file, network, order)
    return Elastic(
        network, {name: features.long() for name, features in order.items()}, statistics, inputs, about["fold"]
    )


def load_network(path: str | Path, width: float | None = None) -> nn.Module:
    """Load any network that `run compact` wrote, in evaluation mode, on the CPU.

    Args:
        path: folder or file of the network.
        width: width of an elastic network, in (0, 1]; None means 1.

    Raises:
        ConfigError: a width is given for a network that has only one, or the width is out of range.
        DamagedRun: see `load_compact` and `load_elastic`.
    """
    file = elastic_file(Path(path))
    if file is not None:
        return load_elastic(file).at(1.0 if width is None else width).network
    if width is not None:
        raise ConfigError(f"width={width:g}: {path} has one width only; run compact FOLDER widths=[0.25,0.5,1] has all")
    return load_compact(path)


def elastic_file(path: Path) -> Path | None:
    """Return the elastic file at a path or inside the folder at that path, or None if there is none."""
    file = path / ELASTIC if path.is_dir() else path
    if not file.is_file():
        return None
    if file.name == ELASTIC:
        return file
    try:
        with safe_open(file, framework="pt") as stored:
            return file if "elastic" in (stored.metadata() or {}) else None
    except (OSError, SafetensorError):  # the function that reads the file reports it
        return None


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _check_order(file: Path, network: nn.Module, order: Mapping[str, Tensor]) -> None:
    try:
        rows = FeatureMembers(network, tuple(order)).magnitude() if order else {}
    except (ValueError, AttributeError):
        rows = {}
    if not order or rows.keys() != order.keys():
        raise DamagedRun(f"{file}: expected an order of the features of the network's places")
    for name, features in order.items():
        count = rows[name].shape[1]
        each = features.dtype == torch.int32 and features.shape == (count,)
        if not each or not torch.equal(features.long().sort().values, torch.arange(count)):
            raise DamagedRun(f"{file}: order.{name}: expected each of {count} features once")


def _statistics(
    file: Path, widths: Any, tensors: Mapping[str, Tensor], expected: Statistics
) -> dict[float, dict[str, Tensor]]:
    rising = isinstance(widths, list) and all(type(width) in (float, int) for width in widths)
    if not rising or not all(0 < width <= 1 for width in widths) or not all(a < b for a, b in pairwise(widths)):
        raise DamagedRun(f"{file}: widths: expected rising numbers above 0, at most 1")
    if widths and widths[-1] != 1:
        raise DamagedRun(f"{file}: widths: expected 1 among them")
    found = {width: _part(tensors, f"statistics.{number}.") for number, width in enumerate(widths)}
    for part in found.values():
        for name in expected.keys() | part.keys():
            value = part.get(name)
            fits = value is not None and name in expected and value.shape == expected[name].shape
            if not fits or value.dtype != torch.float32 or not value.isfinite().all():  # type: ignore[union-attr]
                raise DamagedRun(f"{file}: the statistics of {name} are not the network's")
    return found


def _example(inputs: Sequence[tuple[tuple[int, ...], torch.dtype]]) -> list[Tensor]:
    """Return arguments of the given shapes for tracing, without changing the global random state."""
    generator = torch.Generator().manual_seed(0)
    return [
        torch.rand(shape, generator=generator) if kind.is_floating_point else torch.zeros(shape, dtype=kind)
        for shape, kind in inputs
    ]


def _inputs(file: Path, stored: Any) -> list[tuple[tuple[int, ...], torch.dtype]]:
    def fits(one: Any) -> bool:
        if not isinstance(one, list) or len(one) != 2 or not isinstance(one[0], list) or not isinstance(one[1], str):
            return False
        whole = all(type(size) is int and 0 < size <= _LARGEST_INPUT for size in one[0])
        few = whole and len(one[0]) > 0 and 2 <= one[0][0] <= _MOST_EXAMPLES
        return bool(few and one[1] in _TYPES and math.prod(one[0]) <= _LARGEST_INPUT)

    if not isinstance(stored, list) or not 0 < len(stored) <= _MOST_INPUTS or not all(map(fits, stored)):
        raise DamagedRun(f"{file}: inputs: expected shapes and types")
    return [(tuple(shape), _TYPES[kind]) for shape, kind in stored]
