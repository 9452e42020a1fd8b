"""Group runs into columns that are named by the options that distinguish them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from runner.config.identity import plain, with_defaults
from runner.config.rules import leaves, show
from runner.runs import NOT_IDENTITY, NOT_IDENTITY_OF_DATA, Run

if TYPE_CHECKING:  # run list does not load pandas, which is slow to import
    from runner.reporting.gather import Measured

# Options whose values may depend on the machine; named only if nothing else distinguishes two columns.
MACHINE = ("precision", "compile")
GROUPS = ("data", "model", "dropout")  # choices of these groups are named first, in this order

Config = Mapping[str, Any]


def same_but_seed(measured: Sequence[Measured]) -> list[list[Measured]]:
    """Group runs that differ only in their seed, device, paths and other options that do not affect the weights."""
    columns: dict[tuple[str, str], list[Measured]] = {}
    for run in measured:
        columns.setdefault((repr(sorted(plain(_identity(run.config)).items())), run.hash), []).append(run)
    return list(columns.values())


def without_repeats(column: Sequence[Measured]) -> tuple[list[Measured], list[str]]:
    """Return one run per seed and the folders of runs with repeated seeds. Copies are not independent samples."""
    first: dict[int, Measured] = {}
    repeats = []
    for run in column:
        if first.setdefault(run.seed, run) is not run:
            repeats.append(f"{run.run.folder} (seed {run.seed} again)")
    return list(first.values()), repeats


def seed_groups(configs: Mapping[Run, Config]) -> tuple[list[list[Measured]], list[str]]:
    """Group runs that differ only in their seed.

    Args:
        configs: the stored, nested configuration of each run.

    Returns:
        The groups, with one run per seed and without points, and notes about runs that were left out.
    """
    from runner.reporting.gather import Measured

    measured = [
        Measured.without_points(run, dict(leaves(with_defaults(config))), run.status())
        for run, config in configs.items()
    ]
    groups = [without_repeats(group) for group in same_but_seed(measured)]
    return [group for group, _ in groups], [f"left out: {repeat}" for _, repeats in groups for repeat in repeats]


def in_columns(groups: Sequence[Sequence[Measured]]) -> list[tuple[str, Measured]]:
    """Return every run with its column name, sorted by column, with columns without dropout first, and by seed."""
    names = column_names([group[0] for group in groups])
    columns = sorted(zip(names, groups, strict=True), key=lambda column: (_has_dropout(column[1][0]), column[0]))
    return [(name, run) for name, group in columns for run in sorted(group, key=lambda run: run.seed)]


def _has_dropout(run: Measured) -> bool:
    return run.config.get("dropout.name") != "none"


def column_names(columns: Sequence[Measured]) -> list[str]:
    """Return a name for each column, given one run of each.

    A name consists of the dropout and whatever distinguishes the column from the others: `targeted`; `cifar10 targeted`
    if there are other data sets; `targeted alpha=0.5` if there is also `targeted alpha=0.66`.
    """
    configs = [_identity(run.config) for run in columns]
    ordered = _ordered(configs)
    within = _varying_within_choices(ordered, configs)
    shown = [name for name in ordered if name not in MACHINE and _distinguishes(name, within, configs)]
    names = [_name(config, shown, within) for config in configs]
    for more in MACHINE:
        if _varies(more, configs):
            names = _told_apart(names, [f"{more}={show(config.get(more))}" for config in configs])
    # The options may be equal while the content of the user's data or the version of this package differs.
    for words in ([run.hash[:8] for run in columns], [str(run.run.folder) for run in columns]):
        names = _told_apart(names, words)
    return names


def differing_options(configs: Sequence[Config]) -> list[str]:
    """Return, for each run, a text with the options that differ between the runs, e.g. `alpha=0.5`.

    Args:
        configs: dotted configurations with the same data, model, dropout and regularizer.
    """
    configs = [_identity(config) for config in configs]
    shown = [name for name in _ordered(configs) if _varies(name, configs)]
    within = _varying_within_choices(shown, configs)
    return [_name(config, shown, within) for config in configs]


def varying_options(configs: Sequence[Config]) -> list[str]:
    """Return the names of options other than the seed that differ between runs, in the order used in column names."""
    identities = [_identity(config) for config in configs]
    return [name for name in _ordered(identities) if _varies(name, identities)]


def common_title(columns: Sequence[Measured]) -> str:
    """Return the data set, model and length that all columns share, e.g. `digits · resnet32 · 50ep`."""
    configs = [run.config for run in columns]
    names = ("data.name", "model.name", "schedule.length")
    return " · ".join(show(configs[0][name]) for name in names if name in configs[0] and not _varies(name, configs))


def _identity(config: Config) -> dict[str, Any]:
    """Return the options that determine a run's identity."""
    places = {f"data.{name}" for name in NOT_IDENTITY_OF_DATA}
    return {n: v for n, v in config.items() if n.partition(".")[0] not in NOT_IDENTITY and n not in places}


def _ordered(configs: Sequence[Config]) -> list[str]:
    """Return all options: the groups' choices in their order, then the groups' options, starting with dropout's."""
    names = list(dict.fromkeys(name for config in configs for name in config))
    groups = list(dict.fromkeys([*GROUPS, *(name.partition(".")[0] for name in names)]))
    choices = [f"{group}.name" for group in groups if f"{group}.name" in names]
    rest = [name for name in names if name not in choices]
    return choices + sorted(rest, key=lambda n: (not n.startswith("dropout."), groups.index(n.partition(".")[0])))


def _distinguishes(name: str, within: Container[tuple[str, str]], configs: Sequence[Config]) -> bool:
    """Return whether an option differs between runs with the same choice in its group."""
    if name.endswith(".name"):
        return name == "dropout.name" or _varies(name, configs)
    return any((name, _choice(name, config)) in within for config in configs)


def _varying_within_choices(names: Sequence[str], configs: Sequence[Config]) -> set[tuple[str, str]]:
    """Return pairs of an option and its group's choice for options that differ between runs with that choice."""
    first: dict[tuple[str, str], Any] = {}
    places = [((name, _choice(name, config)), config.get(name)) for config in configs for name in names]
    return {place for place, value in places if first.setdefault(place, value) != value}


def _choice(name: str, config: Config) -> str:
    """Return the choice of an option's group, in the form of a key."""
    return repr(config.get(f"{name.partition('.')[0]}.name"))


def _varies(name: str, configs: Sequence[Config]) -> bool:
    return any(config.get(name) != configs[0].get(name) for config in configs)


def _name(config: Config, shown: Sequence[str], within: Container[tuple[str, str]]) -> str:
    words = []
    for name in shown:
        if name.endswith(".name"):
            words.append(show(config.get(name)))
        elif name in config and (name, _choice(name, config)) in within:
            last = name.rpartition(".")[2]
            alone = sum(other.rpartition(".")[2] == last for other in shown) == 1
            words.append(f"{last if alone else name}={show(config[name])}")
    return " ".join(words)


def _told_apart(names: Sequence[str], words: Sequence[str]) -> list[str]:
    """Append a word to each name that occurs more than once."""
    counts = Counter(names)
    return [f"{n} {word}".strip() if counts[n] > 1 else n for n, word in zip(names, words, strict=True)]
