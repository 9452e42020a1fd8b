"""Groups that allow several choices per run: criteria, granularities and loggers. Does not import torch.

A choice is a file in conf/criterion, conf/granularity or conf/logger, or in the same folder of the user's --config-dir.
A configuration gives its name, or its name with parameters, as in `{n_of_m: {n: 1}}`. Composition replaces it with a
self-contained mapping, called a complete choice here (see `settle`).
"""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from runner.config.build import PLUGINS, find_class, instantiate
from runner.config.paths import CONF
from runner.config.rules import show
from runner.errors import ConfigError

Part = dict[str, Any]
# Group → the option that lists its names.
OPTIONS = {"criterion": "prune.criterion", "granularity": "prune.granularity", "logger": "loggers"}


# Listed before all others: common granularities and criteria.
_FIRST = ("weight", "unit", "feature", "own", "magnitude", "random")


def names(group: str, folders: Iterable[Path] = (CONF,)) -> list[str]:
    """Return the choices of a group in the order used in help texts, tables and figures."""
    return in_order(path.stem for folder in folders for path in (folder / group).glob("*.yaml"))


def in_order(keys: Iterable[str]) -> list[str]:
    """Return the distinct keys of choices, sorted in the order of `names`."""
    place = {name: number for number, name in enumerate(_FIRST)}
    return sorted(set(keys), key=lambda key: (place.get(key, len(place)), key))


@cache
def file_of(group: str, name: str, folders: tuple[Path, ...] = (CONF,)) -> Part:
    """Return the content of a choice's file. Later folders take precedence.

    Raises:
        ConfigError: no folder contains such a file, or it names no class.
    """
    for folder in reversed(folders):
        path = folder / group / f"{name}.yaml"
        if Path(name).name == name and path.is_file():
            try:
                content = yaml.safe_load(path.read_text())
            except (yaml.YAMLError, UnicodeDecodeError) as error:
                raise ConfigError(f"{path}: {' '.join(str(error).split())}") from None
            if not isinstance(content, dict) or "_target_" not in content:
                raise ConfigError(f"{path}: expected a mapping with a _target_")
            return content
    known = names(group, folders)
    near = get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ";"
    raise ConfigError(f"{OPTIONS[group]}={name}: unknown{hint} expected {', '.join(known)}")


def settle(group: str, value: Any, folders: Sequence[Path] = (CONF,)) -> list[Part]:
    """Convert a configuration value to complete choices: mappings of `name`, `key`, `_target_` and the arguments.

    The key identifies the choice in pruning.csv. It includes parameters that differ from the file, as in `n_of_m(n=1)`.

    Args:
        value: a name, a mapping from names to parameters, a complete choice, or a list of these.

    Raises:
        ConfigError: a name or a parameter is unknown.
    """
    if isinstance(value, list):
        return [part for one in value for part in settle(group, one, folders)]
    if isinstance(value, Mapping) and "_target_" in value:
        return [dict(value)]
    if isinstance(value, Mapping) and value:
        return [_part(group, str(name), given, tuple(folders)) for name, given in value.items()]
    if isinstance(value, str):
        return [_part(group, value, {}, tuple(folders))]
    raise ConfigError(f"{OPTIONS[group]}={show(value)}: must be a name or a list of names; see run list {group}")


def _part(group: str, name: str, given: Any, folders: tuple[Path, ...]) -> Part:
    content = file_of(group, name, folders)
    known = [key for key in content if key not in ("_target_", "label")]
    if not isinstance(given, Mapping):
        raise ConfigError(f"{OPTIONS[group]}={{{name}: {show(given)}}}: must be a mapping of parameters")
    for parameter in given:
        if parameter not in known:
            has = f"it has {', '.join(known)}" if known else "it has no parameters"
            raise ConfigError(f"{OPTIONS[group]}: {name} has no parameter {parameter}; {has}")
    differing = {key: value for key, value in given.items() if value != content[key]}
    words = ",".join(f"{key}={show(differing[key])}" for key in sorted(differing))
    return {"name": name, "key": f"{name}({words})" if words else name, **content, **given}


def label(group: str, key: str) -> str:
    """Return the label of a choice in figures and tables, such as `filters`, or the key of a user's own choice."""
    name, bracket, parameters = key.partition("(")
    path = CONF / group / f"{name}.yaml"
    if Path(name).name != name or not path.is_file():
        return key
    return f"{file_of(group, name).get('label', name)}{' (' if bracket else ''}{parameters}"


def make(group: str, part: Mapping[str, Any]) -> Any:
    """Create the object described by a complete choice.

    Raises:
        ConfigError: there is no such class, or it rejects a parameter.
    """
    given = {key: value for key, value in part.items() if key not in ("_target_", "name", "key", "label")}
    option = OPTIONS[group]
    return instantiate(option, part["name"], find_class(option, part["_target_"], PLUGINS[group]), given)


def make_all(group: str, parts: Any) -> dict[str, Any]:
    """Create the objects described by complete choices, by key; return {} for `auto`."""
    return {part["key"]: make(group, part) for part in parts} if isinstance(parts, list) else {}


def builtin(group: str, key: str) -> Any:
    """Create the object for a built-in choice, given its name or a key with parameters such as `n_of_m(m=8)`."""
    name, _, words = key.removesuffix(")").partition("(")
    given = dict(word.split("=", 1) for word in words.split(",") if word)
    return make(group, settle(group, {name: {word: yaml.safe_load(value) for word, value in given.items()}})[0])
