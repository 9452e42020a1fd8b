"""The identity of a run: a hash of everything but the seed that determines the weights and differs from the defaults.

Adding an option with a default therefore does not rename runs. Defaults are those at the release of each class
(`released.json`), not the current ones: if a default changes, new runs get a different identity and old runs keep
theirs. Run folders of format 1, whose hash includes default values as well, are still found.
"""

import hashlib
import inspect
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from runner.config.build import PACKAGES, canonical, target
from runner.config.paths import CONF, options_in
from runner.runs import NOT_IDENTITY_OF_DATA

# Options outside groups that determine the weights, with the value that has no effect.
_OPTIONS = {"precision": None, "compile": False, "limit": None, "sync_batch_norm": True}
# Options of a group that are not arguments of its class, with the value that has no effect.
_BESIDE_CLASS: dict[str, dict[str, Any]] = {"model": {"input_size": None}, "schedule": {"image_sizes": None}}
_FILES = ("train", "validation", "test")  # options that give a fraction of the examples, or files
_NOTHING = "runner.regularizers.NoRegularizer"


def identity(config: Mapping[str, Any], content: Mapping[str, str] | None = None) -> str:
    """Return a hash (64 hex digits) of everything that determines the weights except the seed.

    Args:
        config: the complete configuration, with plain values and resolved precision.
        content: hashes of the user's own files. The keys are "data", "init" (the initial weights), "weights" (the
            model's weights file) and, for the source of each of the user's own classes, the option that names it.
    """
    content = dict(content or {})
    kept: dict[str, Any] = {name: config[name] for name, value in _OPTIONS.items() if config.get(name, value) != value}
    kept |= {group: _differing(config, group, "data" in content, "weights" in content) for group in PACKAGES}
    if kept["regularizer"]["_target_"] == _NOTHING:
        del kept["regularizer"]
    return _hash(plain({**kept, **({"content": content} if content else {})}))


def _differing(config: Mapping[str, Any], group: str, own_files: bool, weights: bool = False) -> dict[str, Any]:
    """Return a group's class and those of its options that differ from the released defaults."""
    path = canonical(str(config[group]["_target_"]))
    released, now = released_defaults().get(path, {}), defaults_now(target(config, group))
    # An option that is not given has the current default of the class.
    given = {**{name: value for name, value in now.items() if name in released}, **config[group]}
    ignored = {"name", "_target_", *(NOT_IDENTITY_OF_DATA if group == "data" else ())}
    if group == "model" and weights:  # the content of the file counts, not its path
        ignored |= {"weights"}
    if group == "data" and own_files:  # the content of files counts, not their names
        ignored |= {name for name in _FILES if isinstance(given.get(name), list | str)}
        named_contents = getattr(target(config, group), "named_contents", None)
        ignored |= set(named_contents(given)) if named_contents else set()
    defaults = {**now, **_BESIDE_CLASS.get(group, {}), **released}
    differing = {
        name: value
        for name, value in given.items()
        if name not in ignored and not (name in defaults and plain(defaults[name]) == plain(value))
    }
    return {"_target_": path, **differing}


def with_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """Add the defaults of options that are newer than a stored configuration.

    Runs of different versions with otherwise equal options then compare equal. No class is imported: the defaults are
    the released ones or, for later options, those in the choice's file.
    """
    filled = dict(config)
    for group in PACKAGES:
        part = config.get(group)
        if isinstance(part, Mapping) and "_target_" in part:
            path = canonical(str(part["_target_"]))
            listed = options_in(group, str(part.get("name")))
            listed = listed if listed.get("_target_") == path else {}
            defaults = {**listed, **_BESIDE_CLASS.get(group, {}), **released_defaults().get(path, {})}
            filled[group] = {**part, **{name: value for name, value in defaults.items() if name not in part}}
    later = ("compile", "limit", "sync_batch_norm")
    return {**{name: _OPTIONS[name] for name in later}, **filled}


@cache
def released_defaults() -> dict[str, dict[str, Any]]:
    """Return the released default of every parameter, by class and parameter."""
    found: dict[str, dict[str, Any]] = {}
    for release in _releases().values():
        for path, defaults in release.items():
            found.setdefault(path, {}).update(defaults)
    return found


@cache
def _releases() -> dict[str, dict[str, dict[str, Any]]]:
    table: dict[str, dict[str, dict[str, Any]]] = json.loads(Path(__file__).with_name("released.json").read_text())
    return table


def defaults_now(cls: type) -> dict[str, Any]:
    """Return the current defaults of a class as plain values, by parameter."""
    parameters = inspect.signature(cls).parameters.values()
    return {p.name: plain(p.default) for p in parameters if p.default is not p.empty}


def plain(value: Any) -> Any:
    """Convert a value to a canonical form of JSON types: 1.0 becomes 1, and a tuple becomes a list."""
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def identity_of_format_1(config: Mapping[str, Any], content: Mapping[str, str] | None = None) -> str | None:
    """Return the hash of a configuration in format 1, or None if it cannot be expressed in format 1.

    The hash includes all options of format 1, with the exact spelling of their values. This function must not change.
    """
    content = dict(content or {})
    if set(content) - {"data"}:
        return None
    kept = {name: config[name] for name in ("precision", "compile", "limit") if name in config}
    if kept.get("limit") is None:
        kept.pop("limit", None)
    for group in PACKAGES:
        part = _of_format_1(config, group)
        if part is None:
            return None
        kept[group] = part
    kept["data"] = {name: value for name, value in kept["data"].items() if name not in NOT_IDENTITY_OF_DATA}
    if kept["regularizer"].get("name") == "none":
        del kept["regularizer"]
    if "data" in content:
        kept["content"] = content["data"]
        kept["data"] = {n: v for n, v in kept["data"].items() if not (n in _FILES and isinstance(v, list))}
    return _hash(kept)


def _of_format_1(config: Mapping[str, Any], group: str) -> dict[str, Any] | None:
    """Return a group without options added after format 1, or None if format 1 lacks its class or an option's value."""
    path = canonical(str(config[group]["_target_"]))
    then = _releases()["format 1"].get(path)
    if then is None:  # a class of the user's own, or one added later
        return dict(config[group]) if not path.startswith("runner.") else None
    later = {"image_sizes": None} if group == "schedule" else {}  # not an argument of the class
    now = {**defaults_now(target(config, group)), **later}
    came_later = {name for name in now if name not in then}
    if any(name in came_later and plain(value) != now[name] for name, value in config[group].items()):
        return None
    return {name: value for name, value in config[group].items() if name not in came_later}


def same_sweep(swept: Any, prune: Mapping[str, Any], scope: str = "layer") -> bool:
    """Return whether a stored `prune` section requests the same sweep as `prune`.

    Only options that differ from the defaults are compared, so a missing option is the same as its default.

    Args:
        swept: the stored section, or None.
        prune: the section of the current configuration.
        scope: the scope of the run's variant, which replaces `scope: auto`.
    """
    return isinstance(swept, Mapping) and _sweep(swept, scope) == _sweep(prune, scope)


def _sweep(prune: Mapping[str, Any], scope: str) -> dict[str, Any]:
    given = dict(prune)
    if given.get("scope") == "auto":
        given["scope"] = scope
    if "scores" in given:  # the name of `criterion` in format 1
        given["criterion"] = given.pop("scores")
    for name in ("granularity", "criterion"):
        value = given.get(name)
        if isinstance(value, list):
            given[name] = [part["key"] if isinstance(part, Mapping) else part for part in value]
        elif value not in (None, "auto"):
            given[name] = [value]
    now = yaml.safe_load((CONF / "prune" / "grid.yaml").read_text())
    defaults = {**now, **released_defaults()["prune"]}
    return {name: plain(value) for name, value in given.items() if plain(value) != defaults.get(name)}


def _hash(kept: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
