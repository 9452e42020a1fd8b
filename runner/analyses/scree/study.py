"""The main function of `run scree`: measure the runs, choose where to cut, and write tables and figures."""

from pathlib import Path
from typing import Any

from runner.analyses.output import folder_of, write_tables
from runner.analyses.scree.codes import pictures
from runner.analyses.scree.columns import column_of, load, named, pca_rows, places_of
from runner.analyses.scree.cuts import ALL, some_ks
from runner.analyses.scree.report import Choosing, choices, figures, markdown, table
from runner.analyses.sources import Sources
from runner.tasks.metrics import headline_of_task, of_task
from runner.tasks.reconstruction import Reconstruction


def study(sources: Sources, options: dict[str, Any]) -> tuple[str, list[Path]]:
    """Compare the first group of runs with all others, and return the page and the paths of the written files."""
    notes = sources.notes
    groups = sources.groups
    options = {**options, "limit": options["limit"] or sources.configs[groups[0][0].run].get("limit")}
    first = load(groups[0][0], sources.configs, options)
    places = places_of(first, options)
    columns = [column_of(group, first, sources.configs, options, places) for group in groups]
    rows, name, by_norm = named(columns)
    if by_norm:
        notes.append(f"features without a learned order are ranked by the norm of their filters: {by_norm}")
    task = first.parts.task
    if isinstance(task, Reconstruction):
        rows += pca_rows(first, [place for place in places if place != ALL], options, notes)
    wide = table(rows, name)
    choosing = Choosing(headline_of_task(task), options["tolerance"], of_task(task))
    chosen = choices(wide, choosing)
    if chosen.empty:
        notes.append("no elbow or fewest features: there is no validation data to choose them on")
    config = first.parts.config
    folder = folder_of(options, "scree", "-".join(str(config[part]["name"]) for part in ("data", "model", "dropout")))
    text = markdown(wide, chosen, choosing, name, notes)
    paths = write_tables(folder, {"table": wide, "choices": chosen}, text)
    paths += figures(wide, chosen, choosing, name, folder)
    if isinstance(task, Reconstruction) and hasattr(first.parts.model, "encode"):
        code, n = next(iter(first.widths.items()))
        paths += pictures(first.sweeper, code, some_ks(n, options["ks"]), folder)
    return text, paths
