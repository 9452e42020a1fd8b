"""The output of `run show`: a run's description, its results, and how to continue."""

from runner.config.rules import show
from runner.errors import UserError
from runner.files import read_rows
from runner.reporting.finding import Found
from runner.reporting.formats import duration, run_title

_ABOUT = {"note": "note", "command": "command", "started": "started", "device": "machine", "git": "commit"}


def description(found: Found) -> list[str]:
    """Return the lines printed by `run show` for a run."""
    run, status = found.run, found.status
    if found.state == "damaged":
        return [f"{run.folder}: damaged", found.error]
    lines = [f"{run_title(run.config())}: {found.state or 'no status'}", str(run.folder), ""]
    about = {label: status.get(name) for name, label in _ABOUT.items()}
    if isinstance(status.get("seconds"), int | float):
        about["training"] = duration(float(status["seconds"]))
    if isinstance(status.get("versions"), dict):
        about["versions"] = ", ".join(f"{name} {version}" for name, version in status["versions"].items())
    about["error"] = found.error or None
    about["compact"] = ", ".join(path.parent.name for path in run.certificates()) or None
    lines += [f"{label:9} {' '.join(show(value).split())}" for label, value in about.items() if value is not None]
    return [*lines, "", *_reached(found), "", *_next(found)]


def _reached(found: Found) -> list[str]:
    if found.run.pruning_rows(found.status):
        from runner.reporting.summary import pruning_summary

        try:
            return pruning_summary(found.run).splitlines()
        except UserError as error:
            return [str(error)]
    rows = read_rows(found.run.metrics_file)
    if not rows:
        return ["no measurements yet"]
    return [f"epoch {rows[-1].get('epoch')}:", *(f"  {name:21} {value}" for name, value in rows[-1].items())]


def _next(found: Found) -> list[str]:
    folder, command = found.run.folder, found.status.get("command")
    if found.state == "finished":
        return [
            "Next steps:",
            f"  run prune {folder} prune.criterion=random     prune by other rules, without training",
            f"  run compact {folder} sparsity=0.9             make a compact network",
            f"  run evaluate {folder} sparsity=0.9 split=validation",
            f"  run report {folder}",
        ]
    if found.state == "running":
        return ["The run is in progress."]
    again = (
        f"To resume from the last checkpoint, run the same command: {command}"
        if command
        else "Its command is not known."
    )
    return [again]
