"""run scree: finished runs at their first k features, beside PCA and networks trained at exactly that width."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runner import runs
from runner.analyses.scree.codes import pictures
from runner.analyses.scree.columns import Configs, column_of, load, named, pca_rows, places_of
from runner.analyses.scree.ordered import ALL, some_ks
from runner.analyses.scree.report import Choosing, choices, figures, markdown, table
from runner.config.compose import Composer
from runner.config.rules import check_each
from runner.errors import ConfigError
from runner.files import write_frame, write_text
from runner.reporting.columns import seed_groups
from runner.reporting.gather import Measured
from runner.rules import between, either, list_of, one_of, whole
from runner.runs import Run
from runner.stored import stored_config
from runner.tasks.metrics import headline_of_task, of_task
from runner.tasks.reconstruction import Reconstruction

_RULES = {
    "places": either(None, list_of(lambda name: None if isinstance(name, str) else "names of modules, or all")),
    "ks": either(None, list_of(whole(1))),
    "tolerance": between(0, 1),
    "batch_norm": one_of("kept", "recalibrated"),
}


def scree(folders: Sequence[str], overrides: Sequence[str], config_dir: Path | None = None) -> int:
    """The command: the first folder's run, all others beside it."""
    if not folders:
        raise ConfigError("run scree needs a run folder, others beside it can follow: run scree outputs/train/…")
    asked = Composer("scree", config_dir).single(overrides)
    check_each(asked, _RULES)
    configs = {run: stored_config(run, asked, config_dir) for run in _found(folders)}
    groups, notes = _groups(configs, runs.find_runs(folders[:1]), folders[0])
    asked["limit"] = asked["limit"] or configs[groups[0][0].run].get("limit")
    first = load(groups[0][0], configs, asked)
    places = places_of(first, asked)
    columns = [column_of(group, first, configs, asked, places) for group in groups]
    rows, name, by_norm = named(columns)
    if by_norm:
        notes.append(f"features without an order of their own are kept by the norm of their filters: {by_norm}")
    task = first.parts.task
    if isinstance(task, Reconstruction):
        rows += pca_rows(first, [place for place in places if place != ALL], asked, notes)
    wide = table(rows, name)
    choosing = Choosing(headline_of_task(task), asked["tolerance"], of_task(task))
    chosen = choices(wide, choosing)
    if chosen.empty:
        notes.append("no images for validation, on which elbow and fewest features are chosen")
    out = Path(asked["out"] or Path(asked["outputs"]) / "scree" / _name(first.parts.config))
    out.mkdir(parents=True, exist_ok=True)
    text = markdown(wide, chosen, choosing, name, notes)
    paths = [out / "table.csv", out / "choices.csv", out / "table.md"]
    for path, frame in zip(paths[:2], (wide, chosen), strict=True):
        write_frame(path, frame)
    write_text(paths[2], text)
    paths += figures(wide, chosen, choosing, name, out)
    if isinstance(task, Reconstruction) and hasattr(first.parts.model, "encode"):
        code, n = next(iter(first.widths.items()))
        paths += pictures(first.meter, code, some_ks(n, asked["ks"]), out)
    print(text)
    print(*paths, sep="\n")
    return 0


def _found(folders: Sequence[str]) -> list[Run]:
    """The first folder's runs, then all others; of copies of a run the first stays."""
    return list(dict.fromkeys([*runs.find_runs(folders[:1]), *runs.find_runs(folders)]))


def _groups(configs: Configs, first: Sequence[Run], folder: str) -> tuple[list[list[Measured]], list[str]]:
    """Runs that differ in their seed only together, the first folder's before the others; and notes."""
    groups, notes = seed_groups(configs)
    if sum(any(one.run in first for one in group) for group in groups) > 1:
        raise ConfigError(f"{folder} holds runs that differ in more than their seed; name one of them first")
    return groups, notes


def _name(config: Mapping[str, Any]) -> str:
    """`fashion_mnist-autoencoder-tail`"""
    return "-".join(str(config[group]["name"]) for group in ("data", "model", "dropout"))
