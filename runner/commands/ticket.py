"""run ticket: is the network that pruning leaves a winning ticket, and how much training does it save?"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from runner import runs
from runner.analyses.tickets.plan import Ticket
from runner.analyses.tickets.report import markdown, table
from runner.analyses.tickets.sources import Source, find_sources
from runner.analyses.tickets.trainings import Trainings
from runner.commands.workers import failure_of, side_by_side
from runner.config.choices import names
from runner.config.compose import Composer
from runner.config.rules import RULES, check_each
from runner.errors import ConfigError, UserError
from runner.files import write_frame, write_text
from runner.reporting.formats import granularity_label, percent
from runner.rules import above, between, either, list_of, one_of, whole

_LENGTH = RULES["schedule.length"]
_RULES = {
    "sparsity": between(0, 1),
    "granularity": one_of("auto", *names("granularity")),
    "scores": one_of(*names("criterion")),
    "rewind": either("0ep", _LENGTH),
    "kinds": list_of(one_of("ticket", "fresh", "random"), low=0),
    "iterations": whole(1),
    "finetune": either(None, _LENGTH),
    "finetune_rate": above(0),
    "length": either(None, _LENGTH),
    "jobs": whole(1),
}


def ticket(folders: Sequence[str], overrides: Sequence[str], config_dir: Path | None = None) -> int:
    """The command: the missing trainings of every run, and a table of what all of them reach and cost."""
    if not folders:
        raise ConfigError("run ticket needs a run folder, or several: run ticket outputs/train/… sparsity=0.9")
    asked = Composer("ticket", config_dir).single(overrides)
    check_each(asked, _RULES)
    sources, title, notes = find_sources(runs.find_runs(folders), asked, config_dir)
    asked["granularity"] = granularity = _granularity(sources, asked)
    for column, floor in {source.column: source.variant.floor(granularity) for source in sources}.items():
        if floor > asked["sparsity"]:
            notes.append(f"{column}: its masks are at its γ, {percent(floor)} %, as in its own sweep.")
    made = set[Path]()
    trainings = [Trainings(source, asked, overrides, config_dir is not None, made) for source in sources]
    if asked["jobs"] > 1:
        _train_side_by_side(trainings, asked["jobs"])
    outcomes = [outcome for one in trainings for outcome in one.outcomes()]
    rows = table(outcomes, sources[0].metric, granularity, asked["sparsity"])
    zero = f"{percent(asked['sparsity'])} % of the {granularity_label(granularity)} zero"
    text = markdown(rows, sources[0].metric, ", ".join(filter(None, [title, zero])), notes)
    names = [sources[0].config[group]["name"] for group in ("data", "model")]
    name = "-".join([*names, granularity, f"{asked['sparsity']:g}"])
    out = Path(asked["out"] or Path(asked["outputs"]) / "ticket" / name)
    out.mkdir(parents=True, exist_ok=True)
    paths = [out / "table.csv", out / "table.md"]
    write_frame(paths[0], rows)
    write_text(paths[1], text)
    print(text)
    print(*paths, sep="\n")
    return 0


def _granularity(sources: Sequence[Source], asked: Mapping[str, Any]) -> str:
    if asked["granularity"] != "auto":
        return str(asked["granularity"])
    for granularity in names("granularity"):
        if all(granularity in source.variant.granularities for source in sources):
            return granularity
    raise ConfigError("granularity=auto: the runs have none in common; choose weight or unit")


def _train_side_by_side(trainings: Sequence[Trainings], workers: int) -> None:
    """Train all that is missing, so many chains at a time; afterwards nothing is left to be trained here.

    Chains that begin with the same run are one; all of a source are one where its weights have to be found again.
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
    """In a worker: what went wrong, if anything did."""
    return failure_of(partial(trainings.train_all, chains))
