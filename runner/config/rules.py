"""What values options may have that are no class's: a rule by the option's name, and its YAML's own kind of value for
all others. Parameters of classes have their rules in the classes' constructors, see `runner.parameters`.
"""

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

from runner.config.length import Length
from runner.errors import ConfigError
from runner.rules import Rule, above, between, either, is_path, list_of, one_of, whole


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


def _part(value: Any) -> str | None:
    """A split: a fraction of the training examples, or files; which of them is the rule of the data's class."""
    return None if isinstance(value, list) or not is_path(value) else "a fraction, a file or files"


def _choices(value: Any) -> str | None:
    """Names, which `runner.config.choices` looks up."""
    fits = (
        all(isinstance(one, str | Mapping) for one in (value if isinstance(value, list) else [value])) and value != []
    )
    return None if fits else "a name or a list of names"


# By full name.
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
    """Hold every value against its rule; one without a rule must be of the kind that its YAML has.

    Args:
        config: plain, composed values.
        defaults: the same choices composed without the user's values.

    Raises:
        ConfigError: names the option, the value and what is allowed.
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
    """A command's own options by its own rules; ConfigError as `check`."""
    for name, rule in rules.items():
        if allowed := rule(values[name]):
            raise ConfigError(f"{prefix}{name}={show(values[name])}: expected {allowed}")


def leaves(
    config: Mapping[str, Any], prefix: str = "", stop: Container[str] = frozenset()
) -> Iterator[tuple[str, Any]]:
    """Dotted names and values; a list is one value, and so is what `stop` names."""
    for key, value in config.items():
        if isinstance(value, Mapping) and f"{prefix}{key}" not in stop:
            yield from leaves(value, f"{prefix}{key}.", stop)
        else:
            yield f"{prefix}{key}", value


def show(value: Any) -> str:
    """A value as the command line has it."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{','.join(map(show, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _same_kind(value: Any, default: Any) -> str | None:
    """What is allowed, if the value is of another kind than the default."""
    if default is None or value is None or default == "???":
        return None
    for kind, word in ((bool, "true or false"), (int | float, "a number"), (str, "a word"), (list, "a list, [a,b,…]")):
        if isinstance(default, kind):
            fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
            # A number is a fine name: data.root=2024.
            return None if fits or (kind is str and not isinstance(value, list)) else word
    return None
