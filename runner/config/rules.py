"""What values options may have: a rule by the option's name, and its YAML's own kind of value for all others."""

import math
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any

from runner.config.length import Length
from runner.errors import ConfigError

Rule = Callable[[Any], str | None]  # a value → what is allowed, if the value is not


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def between(low: float, high: float, open_end: bool = False) -> Rule:
    def rule(value: Any) -> str | None:
        if _number(value) and low <= value <= high and not (open_end and value == high):
            return None
        return f"a number from {low:g} to {high:g}" if not open_end else f"a number from {low:g} to below {high:g}"

    return rule


def whole(low: int) -> Rule:
    def rule(value: Any) -> str | None:
        return None if isinstance(value, int) and _number(value) and value >= low else f"a whole number from {low} on"

    return rule


def above(low: float) -> Rule:
    return lambda value: None if _number(value) and value > low else f"a number above {low:g}"


def at_least(low: float) -> Rule:
    return lambda value: None if _number(value) and value >= low else f"a number from {low:g} on"


def one_of(*choices: str) -> Rule:
    return lambda value: None if value in choices else ", ".join(choices)


def either(constant: str | None, rule: Rule) -> Rule:
    word = "null" if constant is None else constant

    def both(value: Any) -> str | None:
        allowed = None if value == constant else rule(value)
        return allowed and f"{word} or {allowed}"

    return both


def list_of(rule: Rule, low: int = 1) -> Rule:
    def every(value: Any) -> str | None:
        if not isinstance(value, list) or len(value) < low:
            one = rule(object())
            return f"a list, [a,b,…], of {one}"
        return next((f"a list of {allowed}" for allowed in map(rule, value) if allowed), None)

    return every


def _length(value: Any) -> str | None:
    try:
        Length.parse(value)
    except ValueError as error:
        return str(error).removeprefix("allowed is ")
    return None


def _device(value: Any) -> str | None:
    name, _, index = str(value).partition(":")
    if value in ("auto", "cpu", "mps", "cuda") or (name == "cuda" and index.isdigit()):
        return None
    return "auto, cpu, cuda, cuda:N, mps"


def _path(value: Any) -> str | None:
    # A number is a fine name: outputs=2024.
    fits = isinstance(value, str | int | float) and not isinstance(value, bool) and value != ""
    return None if fits else "a path"


def _word(value: Any) -> str | None:
    return None if isinstance(value, str) and value else "a word"


def _mapping(value: Any) -> str | None:
    return None if isinstance(value, Mapping) else "a mapping, {name: value, …}"


def _inside(value: Any) -> str | None:
    return None if _number(value) and 0 < value < 1 else "a number between 0 and 1"


def _files(value: Any) -> str | None:
    fits = isinstance(value, list) and len(value) == 2 and not any(map(_path, value))
    return None if fits else "two files, [source,target]"


def _split(value: Any) -> str | None:
    """A part of the training images, or files of its own for text."""
    return _files(value) if isinstance(value, list) else between(0, 1, open_end=True)(value)


def _choices(value: Any) -> str | None:
    """Names, which `runner.config.choices` looks up."""
    fits = (
        all(isinstance(one, str | Mapping) for one in (value if isinstance(value, list) else [value])) and value != []
    )
    return None if fits else "a name or a list of names"


_fraction = between(0, 1)

# By full name, or by the last part of it for whatever group brings such an option.
RULES: dict[str, Rule] = {
    "seed": whole(0),
    "device": _device,
    "precision": one_of("auto", "float32", "bf16"),
    "checkpoint_minutes": above(0),
    "limit": either(None, whole(1)),
    "folder": either(None, _path),
    "init": either(None, _path),
    "outputs": _path,
    "out": either(None, _path),
    "predictions": either(None, _path),
    "data.root": either(None, _path),
    "data.validation": _split,
    "data.test": _split,
    "data.crop": whole(0),
    "data.size": whole(1),
    "data.normalize": one_of("channel", "image", "pixel"),
    "data.train": _files,
    "data.vocabulary": whole(259),
    "data.longest": whole(1),
    "data.workers": either(None, whole(0)),
    "schedule.length": _length,
    "schedule.batch_size": whole(1),
    "schedule.learning_rate": above(0),
    "schedule.warmup": _fraction,
    "schedule.momentum": between(0, 1, open_end=True),
    "schedule.weight_decay": at_least(0),
    "schedule.clip_norm": either(None, above(0)),
    "schedule.drops": list_of(_fraction, low=0),
    "schedule.factor": between(0, 1),
    "schedule.betas": list_of(between(0, 1, open_end=True), low=2),
    "schedule.epsilon": above(0),
    "schedule.decay": one_of("cosine", "inverse_square_root", "none"),
    "task.label_smoothing": between(0, 1, open_end=True),
    "task.beam": whole(1),
    "task.length_penalty": at_least(0),
    "task.longer": whole(0),
    "task.samples": whole(0),
    "dropout.alpha": _fraction,
    "dropout.gamma": _fraction,
    "dropout.ramp": either(None, list_of(_fraction)),
    "dropout.start": _fraction,
    "dropout.end": _fraction,
    "dropout.warmup": _fraction,
    "dropout.sparsity": _fraction,
    "dropout.drop": _fraction,
    "dropout.updates": whole(1),
    "dropout.kept": whole(1),
    "dropout.cost": at_least(0),
    "dropout.scale": at_least(0),
    "dropout.initial_drop": _inside,
    "dropout.examples": whole(1),
    "dropout.distribution": one_of("erk", "uniform"),
    "regularizer.cost": at_least(0),
    "model.architecture": _word,
    "model.weights": either(None, _path),
    "model.arguments": either(None, _mapping),
    "model.width": above(0),
    "model.widths": list_of(whole(1)),
    "model.blocks": whole(1),
    "model.stem_width": whole(1),
    "model.stem_kernel": whole(1),
    "model.stages": list_of(whole(1)),
    "model.dense": list_of(whole(1)),
    "model.depth": whole(10),
    "model.widen": whole(1),
    "model.block": one_of("basic", "bottleneck", "preactivation"),
    "model.batch_norm_momentum": between(0, 1),
    "model.layers": whole(1),
    "model.features": whole(1),
    "model.heads": whole(1),
    "model.feed_forward": whole(1),
    "model.residual_dropout": between(0, 1, open_end=True),
    "model.code": whole(1),
    "model.input_size": either(None, whole(1)),
    "prune.sparsities": list_of(_fraction),
    "prune.granularity": _choices,
    "prune.criterion": _choices,
    "loggers": lambda value: None if value == [] else _choices(value),
    "prune.scope": one_of("auto", "layer", "uniform", "erk", "global"),
    "prune.floor": either("auto", _fraction),
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
            raise ConfigError(f"{name}={show(value)}: allowed is {allowed}")


def check_each(values: Mapping[str, Any], rules: Mapping[str, Rule], prefix: str = "") -> None:
    """A command's own options by its own rules; ConfigError as `check`."""
    for name, rule in rules.items():
        if allowed := rule(values[name]):
            raise ConfigError(f"{prefix}{name}={show(values[name])}: allowed is {allowed}")


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
