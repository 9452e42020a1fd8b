"""run report [FOLDER…] [options]: write an HTML page about runs: curves, tables, costs, certificates, failures

  run report                                     all runs under outputs/ except smoke runs
  run report outputs/train/digits-* out=digits.html title='Digits'

Shows the runs (the options in which they differ, machine, commit, command), curves over sparsity and epochs, costs,
sortable tables, certificates of compact networks, samples, confusion matrices and failures. The page works offline and
without a server. A run has a confusion matrix if its folder has predictions.csv: run evaluate FOLDER
predictions=FOLDER/predictions.csv. No text from a run folder is executed, so untrusted runs are safe to show.
Needs the extra: pip install '.[report]'
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from runner import runs
from runner.config.compose import Composer
from runner.errors import ConfigError


def main(folders: Sequence[str], overrides: Sequence[str], config_dir: Path | None = None) -> int:
    """Write the report page. Without folders, it covers all runs under `outputs` except smoke runs."""
    config = Composer("report", config_dir).single(overrides)
    missing = [name for name in ("bokeh", "jinja2") if find_spec(name) is None]
    if missing:
        raise ConfigError(f"run report needs {' and '.join(missing)}: pip install '.[report]' in a checkout")
    out = Path(config["out"])
    if out.is_dir() or out.suffix not in (".html", ".htm"):
        raise ConfigError(f"out={out}: expected a file name that ends in .html")
    found = runs.find_runs(folders or [config["outputs"]])
    if not folders:
        found, _ = runs.without_smoke(found, Path(config["outputs"]))
    from runner.reporting.page.collect import collect
    from runner.reporting.page.write import write_page

    out.parent.mkdir(parents=True, exist_ok=True)
    write_page(collect(found), out, str(config["title"]))
    print(out)
    return 0
