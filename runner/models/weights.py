"""Load weight files as tensors only, and check that they fit the network."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from runner.errors import ConfigError, first_line

_WRAPPED = ("state_dict", "model")  # names of the state dict in checkpoints of training scripts


def read_state(path: Path, option: str) -> dict[str, Tensor]:
    """Read the tensors of a .safetensors file, or of a state dict that was saved with torch.save.

    The state dict may be the value of `state_dict` or `model` in a checkpoint.

    Args:
        option: the option to name in errors, such as `init=weights.pt`.

    Raises:
        ConfigError: the file can't be read, or is not a state dict of tensors.
    """
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:
        raise ConfigError(f"{option}: not a file of tensors ({first_line(error)[:100]})") from None
    for key in _WRAPPED:
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ConfigError(f"{option}: not a state dict, name → tensor")
    return {str(name).removeprefix("module."): tensor for name, tensor in state.items()}


def load_state(network: nn.Module, state: Mapping[str, Tensor], option: str, other_head: bool = False) -> None:
    """Load tensors into a network.

    Args:
        other_head: keep the network's last layer if only its weight and bias don't fit, and average the first
            convolution over its channels if the network has another number of them.

    Raises:
        ConfigError: the tensors belong to another network; the message names the first that don't fit.
    """
    own = network.state_dict()
    given = dict(state)
    counts = [name for name in own if name.endswith("num_batches_tracked") and name not in given]
    given |= {name: own[name] for name in counts}  # old files lack them
    if other_head:
        given = _fit_ends(own, given)
    lacks = [name for name in own if name not in given]
    others = [name for name in given if name not in own]
    shapes = [name for name in own if name in given and given[name].shape != own[name].shape]
    check_fit(option, lacks, others, shapes)
    network.load_state_dict(given)


def check_fit(option: str, lacks: Sequence[str], others: Sequence[str], shapes: Sequence[str]) -> None:
    """Raise a ConfigError that lists the first names that don't fit, if there are any."""
    if lacks or others or shapes:
        words = (("lacks", lacks), ("also has", others), ("has a different shape of", shapes))
        said = "; ".join(f"{word} {', '.join(names[:3])}{', …' if names[3:] else ''}" for word, names in words if names)
        raise ConfigError(f"{option}: weights of another model: the file {said}")


def _fit_ends(own: Mapping[str, Tensor], given: dict[str, Tensor]) -> dict[str, Tensor]:
    """Replace a head for another number of classes by the network's own, and adapt a stem to the network's channels."""
    matrices = [name for name, tensor in own.items() if tensor.dim() > 1 and name.endswith("weight")]
    if not matrices:
        return given
    head = matrices[-1].removesuffix("weight")
    bad = [n for n in {*own, *given} if n not in own or n not in given or own[n].shape != given[n].shape]
    stem = matrices[0]
    if (
        stem in bad
        and stem in given
        and own[stem].shape[:1] + own[stem].shape[2:] == (given[stem].shape[:1] + given[stem].shape[2:])
    ):
        mean = given[stem].mean(1, keepdim=True) * given[stem].shape[1] / own[stem].shape[1]
        given = {**given, stem: mean.expand_as(own[stem]).contiguous()}
        bad.remove(stem)
    if bad and all(name.startswith(head) and name in own for name in bad):
        given = {**given, **{name: own[name] for name in bad}}
    return given
