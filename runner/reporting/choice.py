"""The validated content of a table file (conf/table/*.yaml)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from runner.config.choices import names
from runner.config.paths import CONF
from runner.config.rules import leaves, show
from runner.densities import SCOPES
from runner.errors import ConfigError
from runner.reporting.formats import COSTS, COUNTS
from runner.reporting.published import published_files, published_heads
from runner.rules import Rule, between, either, is_mapping, is_word, list_of, one_of

_NORMS = ("kept", "recalibrated")
_NORM = one_of(*_NORMS)
_PUBLISHED_WORDS = ("granularity", "metric", "about")


def _choice(known: Sequence[str]) -> Rule:
    """Accept one of the known keys, optionally with parameters, as in `n_of_m(n=1)`."""

    def rule(value: Any) -> str | None:
        return None if isinstance(value, str) and value.partition("(")[0] in known else ", ".join(known)

    return rule


def _rules(folders: Sequence[Path]) -> dict[str, Rule]:
    return {
        "name": is_word,
        "runs": either(None, is_mapping),
        "granularity": _choice(["auto", *names("granularity", folders)]),
        "metric": is_word,
        "split": one_of("train", "validation", "test"),
        "batch_norm": lambda value: _NORM(value) if isinstance(value, str) else either(None, list_of(_NORM))(value),
        "scope": one_of("auto", *SCOPES),
        "scores": _choice(names("criterion", folders)),
        "floor": either("auto", between(0, 1)),
        "sparsities": either(None, list_of(between(0, 1))),
        "x": one_of("sparsity", *COSTS, *COUNTS),
        "baseline": either(None, is_word),
        "published": either(None, is_mapping),
    }


@dataclass(frozen=True)
class PublishedColumn:
    """A column of a published table, shown beside the runs that it is compared with."""

    file: str
    head: str  # the column's heading in the published table
    granularity: str
    metric: str
    about: str  # what was measured, for a note under the table
    runs: Mapping[str, Any]  # dotted configuration names → the values that matching runs have


@dataclass(frozen=True)
class Choice:
    """The runs and measurements shown in a table, and the published columns beside them."""

    name: str
    runs: Mapping[str, Any] = field(default_factory=dict)  # dotted configuration name → value or list of values
    granularity: str = "auto"
    metric: str = "auto"
    split: str = "test"
    batch_norm: Sequence[str] = _NORMS
    scope: str = "auto"
    scores: str = "own"
    floor: float | str = "auto"
    sparsities: Sequence[float] | None = None
    x: str = "sparsity"  # horizontal axis of the figure
    baseline: str | None = None  # the column to give differences from
    published: Sequence[PublishedColumn] = ()

    @classmethod
    def of(cls, table: Mapping[str, Any], folders: Sequence[Path] = (CONF,)) -> "Choice":
        """Create a choice from the configuration's `table` section.

        Args:
            folders: the configuration folders that define granularities and criteria, including the user's own.

        Raises:
            ConfigError: an option is missing or invalid. The message names the option, the value and what is allowed.
        """
        rules, table = _rules(folders), {"x": "sparsity", "baseline": None, **table}
        for name, rule in rules.items():
            if name not in table:
                raise ConfigError(f"table.{name} is missing in the table's file")
            if allowed := rule(table[name]):
                raise ConfigError(f"table.{name}={show(table[name])}: expected {allowed}")
        given = {name: table[name] for name in rules}
        given["runs"] = dict(leaves(table["runs"] or {}))
        norms = table["batch_norm"] or _NORMS
        given["batch_norm"] = [norms] if isinstance(norms, str) else list(dict.fromkeys(norms))
        given["published"] = [
            column for file, part in (table["published"] or {}).items() for column in _published(file, part)
        ]
        return cls(**given)

    @property
    def as_published(self) -> bool:
        """Whether the measurements are made as in the paper. Otherwise, no published numbers are shown."""
        return self.split == "test" and self.scope in ("auto", "layer") and self.scores != "random"


def _published(file: str, part: Any) -> list[PublishedColumn]:
    option = f"table.published.{file}"
    _known(option, file, published_files())
    if not isinstance(part, Mapping) or set(part) != {*_PUBLISHED_WORDS, "columns"}:
        raise ConfigError(f"{option}: expected keys: {', '.join(_PUBLISHED_WORDS)}, columns")
    if not isinstance(part["columns"], Mapping):
        raise ConfigError(f"{option}.columns={show(part['columns'])}: expected a mapping, {{HEAD: {{…}}}}")
    words = {name: str(part[name]) for name in _PUBLISHED_WORDS}
    found = []
    for head, runs in part["columns"].items():
        _known(f"{option}.columns", str(head), published_heads(file))
        if not isinstance(runs, Mapping):
            raise ConfigError(f"{option}.columns.{head}={show(runs)}: expected a mapping, {{dropout: none}}")
        found.append(PublishedColumn(file, str(head), **words, runs=dict(leaves(runs))))
    return found


def _known(option: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        near = get_close_matches(value, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ";"
        raise ConfigError(f"{option}: nothing is published as {value}{hint} expected {', '.join(known)}")
