"""Rules for the values of options that are not parameters of a class.

An option without a rule must have the type of its default in YAML. The rules for parameters of classes are in the
constructors; see `runner.parameters`.
"""

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

from runner.config.length import Length
from runner.errors import ConfigError
from runner.rules import Rule, above, between, either, is_path, list_of, one_of, share, whole


def _length(value: Any) -> str | None:
    try:
        Length.parse(value)
    except ValueError as error:
        return str(error).removeprefix("expected ")
    return None


def _device(value: Any) -> str | None:
    name, _, index = str(value).partition(":")
    if value in ("auto", "cpu", "mps", "cuda") or (name == "cuda" and index.isdigit()):
        return None
    return "auto, cpu, cuda, cuda:N, mps"


def _image_sizes(value: Any) -> str | None:
    fits = value is None or (list_of(share())(value) is None and value[-1] == 1)
    return None if fits else "a list of numbers above 0, at most 1, of which the last is 1, or null"


def _part(value: Any) -> str | None:
    """Accept a fraction or files for a split. The data set's class checks which of them it supports."""
    return None if isinstance(value, list) or not is_path(value) else "a fraction, a file or files"


def _choices(value: Any) -> str | None:
    """Accept one or several choices; `runner.config.choices` checks their names."""
    fits = (
        all(isinstance(one, str | Mapping) for one in (value if isinstance(value, list) else [value])) and value != []
    )
    return None if fits else "a name or a list of names"


# Rules by full name of the option.
RULES: dict[str, Rule] = {
    "seed": whole(0),
    "device": _device,
    "precision": one_of("auto", "float32", "bf16"),
    "checkpoint_minutes": above(0),
    "processes": whole(1),
    "limit": either(None, whole(1)),
    "note": lambda value: None if value is None or isinstance(value, str | int | float) else "words, or null",
    "folder": either(None, is_path),
    "init": either(None, is_path),
    "outputs": is_path,
    "out": either(None, is_path),
    "predictions": either(None, is_path),
    "data.root": either(None, is_path),
    "data.validation": _part,
    "data.test": _part,
    "schedule.length": _length,
    "schedule.batch_size": whole(1),
    "schedule.image_sizes": _image_sizes,
    "model.input_size": either(None, whole(1)),
    "prune.sparsities": list_of(between(0, 1)),
    "prune.granularity": _choices,
    "prune.criterion": _choices,
    "loggers": lambda value: None if value == [] else _choices(value),
    "prune.scope": one_of("auto", "layer", "uniform", "erk", "global"),
    "prune.floor": either("auto", between(0, 1)),
    "prune.batch_norm": list_of(one_of("kept", "recalibrated")),
    "prune.splits": list_of(one_of("train", "validation", "test")),
}


def check(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Check every value against its rule. A value without a rule must have the type of its default.

    Args:
        config: plain, composed values.
        defaults: the same choices composed without the user's values.

    Raises:
        ConfigError: a value is invalid or missing. The message names the option, the value and what is allowed.
    """
    kinds = dict(leaves(defaults))
    for name, value in leaves(config, stop=kinds):
        if value == "???":
            raise ConfigError(f"{name} must be given: {name}=…")
        rule = RULES.get(name)
        allowed = rule(value) if rule else _same_kind(value, kinds.get(name))
        if allowed:
            raise ConfigError(f"{name}={show(value)}: expected {allowed}")


def check_each(values: Mapping[str, Any], rules: Mapping[str, Rule], prefix: str = "") -> None:
    """Check a command's own options against its own rules. Raise the same errors as `check`."""
    for name, rule in rules.items():
        if allowed := rule(values[name]):
            raise ConfigError(f"{prefix}{name}={show(values[name])}: expected {allowed}")


def leaves(
    config: Mapping[str, Any], prefix: str = "", stop: Container[str] = frozenset()
) -> Iterator[tuple[str, Any]]:
    """Yield dotted names with values. Lists and the options in `stop` count as single values."""
    for key, value in config.items():
        if isinstance(value, Mapping) and f"{prefix}{key}" not in stop:
            yield from leaves(value, f"{prefix}{key}.", stop)
        else:
            yield f"{prefix}{key}", value


def show(value: Any) -> str:
    """Format a value as on the command line."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{','.join(map(show, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _same_kind(value: Any, default: Any) -> str | None:
    """Return None if the value has the type of the default, else a description of what is allowed."""
    if default is None or value is None or default == "???":
        return None
    for kind, word in ((bool, "true or false"), (int | float, "a number"), (str, "a word"), (list, "a list, [a,b,…]")):
        if isinstance(default, kind):
            fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
            # A number is a valid name: data.root=2024.
            return None if fits or (kind is str and not isinstance(value, list)) else word
    return None
