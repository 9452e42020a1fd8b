"""The main function of `run ticket`: train the missing runs, and write a table of their results and costs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from runner.analyses.output import folder_of, write_tables
from runner.analyses.tickets.plan import Ticket
from runner.analyses.tickets.report import markdown, table
from runner.analyses.tickets.sources import Source, find_sources
from runner.analyses.tickets.trainings import Trainings
from runner.config.choices import names
from runner.errors import ConfigError, UserError
from runner.reporting.formats import granularity_label, percent
from runner.runs import Run
from runner.workers import failure_of, side_by_side


def study(
    found: Sequence[Run], options: dict[str, Any], overrides: Sequence[str], config_dir: Path | None
) -> tuple[str, list[Path]]:
    """Train the missing runs, compare the results, and return the page and the paths of the written files.

    Args:
        overrides: the overrides on the command line, stored in the status of the new runs.
    """
    sources, title, notes = find_sources(found, options, config_dir)
    granularity, sparsity = _granularity(sources, options), options["sparsity"]
    options = {**options, "granularity": granularity}
    for column, floor in {source.column: source.variant.floor(granularity) for source in sources}.items():
        if floor > sparsity:
            notes.append(f"{column}: its masks have sparsity γ, {percent(floor)} %, as in its own sweep.")
    made = set[Path]()
    trainings = [Trainings(source, options, overrides, config_dir is not None, made) for source in sources]
    if options["jobs"] > 1:
        _train_side_by_side(trainings, options["jobs"])
    outcomes = [outcome for one in trainings for outcome in one.outcomes()]
    metric, config = sources[0].metric, sources[0].config
    rows = table(outcomes, metric, granularity, sparsity)
    zero = f"{percent(sparsity)} % of the {granularity_label(granularity)} zero"
    text = markdown(rows, metric, ", ".join(filter(None, [title, zero])), notes)
    name = "-".join([config["data"]["name"], config["model"]["name"], granularity, f"{sparsity:g}"])
    return text, write_tables(folder_of(options, "ticket", name), {"table": rows}, text)


def _granularity(sources: Sequence[Source], options: Mapping[str, Any]) -> str:
    if options["granularity"] != "auto":
        return str(options["granularity"])
    for granularity in names("granularity"):
        if all(granularity in source.variant.granularities for source in sources):
            return granularity
    raise ConfigError("granularity=auto: the runs have none in common; choose weight or unit")


def _train_side_by_side(trainings: Sequence[Trainings], workers: int) -> None:
    """Train all missing runs in several worker processes.

    Chains that begin with the same run are trained only once. If the chains of a source need its rewound weights, all
    of them run in one process.
    """
    work: dict[Path, tuple[Trainings, list[list[Ticket]], str]] = {}
    for one in trainings:
        run = one.source.run
        for name, chain in one.chains().items():
            folder = one.first_folder(chain)
            if folder in work:
                continue
            key = run.folder if one.source.rewind else folder
            work.setdefault(key, (one, [], str(run.folder) if one.source.rewind else f"{run.folder}: {name}"))
            work[key][1].append(chain)
    failures = side_by_side(
        _train_chains,
        [(replace(one, made=set(), shown=False), chains) for one, chains, _ in work.values()],
        [label for _, _, label in work.values()],
        workers,
    )
    if failed := [failure for failure in failures if failure is not None]:
        raise UserError("; ".join(failed))
    for one in trainings:
        one.asked = {**one.asked, "force": False}


def _train_chains(trainings: Trainings, chains: Sequence[Sequence[Ticket]]) -> str | None:
    """Train chains in a worker process, and return the error message, or None."""
    return failure_of(partial(trainings.train_all, chains))
