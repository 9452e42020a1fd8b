"""What tells runs apart: which of them share a column, and what the column is called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from runner.config.identity import plain, with_defaults
from runner.config.rules import leaves, show
from runner.runs import NOT_IDENTITY, NOT_IDENTITY_OF_DATA, Run
from runner.tasks.metrics import Metric

if TYPE_CHECKING:  # run list is quick without pandas
    from runner.reporting.gather import Measured

# What a run's machine may have decided; named only where nothing else tells two columns apart.
MACHINE = ("precision", "compile")
GROUPS = ("data", "model", "dropout")  # their choices are named in this order, before all others

Config = Mapping[str, Any]


def same_but_seed(measured: Sequence[Measured]) -> list[list[Measured]]:
    """Runs that differ in nothing but seed, device and places, together."""
    columns: dict[tuple[str, str], list[Measured]] = {}
    for run in measured:
        columns.setdefault((repr(sorted(plain(_identity(run.config)).items())), run.hash), []).append(run)
    return list(columns.values())


def without_repeats(column: Sequence[Measured]) -> tuple[list[Measured], list[str]]:
    """One run a seed, and the folders of those that repeat one: a copy is no further sample."""
    first: dict[int, Measured] = {}
    repeats = []
    for run in column:
        if first.setdefault(run.seed, run) is not run:
            repeats.append(f"{run.run.folder} (seed {run.seed} again)")
    return list(first.values()), repeats


def seed_groups(configs: Mapping[Run, Config]) -> tuple[list[list[Measured]], list[str]]:
    """Runs that differ in their seed only together, one a seed, without points; and notes on what was left out.

    Args:
        configs: each run's stored configuration, nested.
    """
    import pandas as pd

    from runner.reporting.gather import Measured

    nothing = Metric(""), pd.DataFrame()
    measured = [
        Measured(run, dict(leaves(with_defaults(config))), str(run.status().get("hash") or ""), *nothing)
        for run, config in configs.items()
    ]
    groups = [without_repeats(group) for group in same_but_seed(measured)]
    return [group for group, _ in groups], [f"left out: {repeat}" for _, repeats in groups for repeat in repeats]


def in_columns(groups: Sequence[Sequence[Measured]]) -> list[tuple[str, Measured]]:
    """Every run with its column's name: those without dropout first, then by name, each column by seed."""
    names = column_names([group[0] for group in groups])
    columns = sorted(zip(names, groups, strict=True), key=lambda column: (_has_dropout(column[1][0]), column[0]))
    return [(name, run) for name, group in columns for run in sorted(group, key=lambda run: run.seed)]


def _has_dropout(run: Measured) -> bool:
    return run.config.get("dropout.name") != "none"


def column_names(columns: Sequence[Measured]) -> list[str]:
    """A name a column, from one run of each: what distinguishes it from the others, its dropout in any case.

    `targeted`; `cifar10 targeted` beside another data set; `targeted alpha=0.5` beside `targeted alpha=0.66`.
    """
    configs = [_identity(run.config) for run in columns]
    shown = [name for name in _ordered(configs) if name not in MACHINE and _distinguishes(name, configs)]
    names = [_name(config, shown, configs) for config in configs]
    for more in MACHINE:
        names = [
            f"{name} {more}={show(config.get(more))}" if _clash(name, names) and _varies(more, configs) else name
            for name, config in zip(names, configs, strict=True)
        ]
    # Equal options, other content of the user's own data; or runs of other versions of this package.
    for words in ([run.hash[:8] for run in columns], [str(run.run.folder) for run in columns]):
        names = [f"{n} {word}".strip() if _clash(n, names) else n for n, word in zip(names, words, strict=True)]
    return names


def differing_options(configs: Sequence[Config]) -> list[str]:
    """Of runs of the same data, model, dropout and regularizer, the options in which they differ: `alpha=0.5`.

    Args:
        configs: dotted configurations, all of them with the same four choices.
    """
    configs = [_identity(config) for config in configs]
    shown = [name for name in _ordered(configs) if _varies(name, configs)]
    return [_name(config, shown, configs) for config in configs]


def varying_options(configs: Sequence[Config]) -> list[str]:
    """The options in which runs differ, in the order in which columns name them; the seed is none."""
    identities = [_identity(config) for config in configs]
    return [name for name in _ordered(identities) if _varies(name, identities)]


def common_title(columns: Sequence[Measured]) -> str:
    """What all columns have in common: `digits · resnet32 · 50ep`."""
    configs = [run.config for run in columns]
    names = ("data.name", "model.name", "schedule.length")
    return " · ".join(show(configs[0][name]) for name in names if name in configs[0] and not _varies(name, configs))


def _identity(config: Config) -> dict[str, Any]:
    """The options that make two runs different ones."""
    places = {f"data.{name}" for name in NOT_IDENTITY_OF_DATA}
    return {n: v for n, v in config.items() if n.partition(".")[0] not in NOT_IDENTITY and n not in places}


def _ordered(configs: Sequence[Config]) -> list[str]:
    """All options: the groups' choices in their order, then what the groups contain, the dropout's first."""
    names = list(dict.fromkeys(name for config in configs for name in config))
    groups = list(dict.fromkeys([*GROUPS, *(name.partition(".")[0] for name in names)]))
    choices = [f"{group}.name" for group in groups if f"{group}.name" in names]
    rest = [name for name in names if name not in choices]
    return choices + sorted(rest, key=lambda n: (not n.startswith("dropout."), groups.index(n.partition(".")[0])))


def _distinguishes(name: str, configs: Sequence[Config]) -> bool:
    """Whether the option varies beyond what follows from its group's choice."""
    if name.endswith(".name"):
        return name == "dropout.name" or _varies(name, configs)
    return any(_varies(name, _same_choice(name, config, configs)) for config in configs)


def _same_choice(name: str, config: Config, configs: Sequence[Config]) -> list[Config]:
    choice = f"{name.partition('.')[0]}.name"
    return [other for other in configs if other.get(choice) == config.get(choice)]


def _varies(name: str, configs: Sequence[Config]) -> bool:
    return any(config.get(name) != configs[0].get(name) for config in configs)


def _name(config: Config, shown: Sequence[str], configs: Sequence[Config]) -> str:
    words = []
    for name in shown:
        if name.endswith(".name"):
            words.append(show(config.get(name)))
        elif name in config and _varies(name, _same_choice(name, config, configs)):
            last = name.rpartition(".")[2]
            alone = sum(other.rpartition(".")[2] == last for other in shown) == 1
            words.append(f"{last if alone else name}={show(config[name])}")
    return " ".join(words)


def _clash(name: str, names: Sequence[str]) -> bool:
    return names.count(name) > 1
