"""run coadapt: which weights of finished runs depend on which, and what pruning changes, predicted and measured."""

from collections.abc import Sequence
from pathlib import Path

from runner import runs
from runner.analyses.coadaptation.study import study
from runner.analyses.output import show
from runner.analyses.sources import Sources
from runner.config.compose import Composer
from runner.config.rules import check_each
from runner.errors import ConfigError
from runner.rules import between, either, list_of, one_of, whole

_RULES = {
    "layers": either(None, list_of(lambda name: None if isinstance(name, str) else "names of layers")),
    "sparsity": between(0, 1),
    "split": one_of("train", "validation", "test"),
    "members": either("auto", whole(0)),
    "probes": either(None, whole(2)),
    "dtype": one_of("auto", "float64", "float32"),
}


def coadapt(folders: Sequence[str], overrides: Sequence[str], config_dir: Path | None = None) -> int:
    """The command: a picture and a table of all runs, a matrix file of each."""
    if not folders:
        raise ConfigError("run coadapt needs a run folder, or several: run coadapt outputs/train/…")
    options = Composer("coadapt", config_dir).single(overrides)
    check_each(options, _RULES)
    show(*study(Sources.of(runs.find_runs(folders), options, config_dir), options))
    return 0
