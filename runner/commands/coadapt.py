"""run coadapt FOLDER… [options]: measure how weights depend on each other; predict and measure the effect of pruning

  run train -m experiment=toy data.root=data dropout=none seed=0,1,2
  run train -m experiment=toy data.root=data dropout=targeted dropout.alpha=0.5 seed=0,1,2
  run coadapt outputs/train/cifar10-mlp-* layers=[logits]     the paper's table 1 and figure 1
  run coadapt outputs/train/cifar10-mlp-*                     the same for both layers
  run coadapt outputs/train/cifar10-resnet32-* limit=200 probes=8      block sums for a large network

Takes finished runs of image classification, and averages those that differ only in their seed. The loss is the mean
cross-entropy over a split; BatchNorm uses its running statistics. M has the entries θ_i H_ij θ_j; H is the Hessian.
Writes CSV, Markdown, a figure, and an .npz file for each run under outputs/coadaptation.
"""

from collections.abc import Sequence
from pathlib import Path

from runner import runs
from runner.analyses.coadaptation.study import study
from runner.analyses.output import show
from runner.analyses.sources import Sources
from runner.config.compose import Composer
from runner.config.rules import check_each
from runner.rules import between, either, list_of, one_of, whole

_RULES = {
    "layers": either(None, list_of(lambda name: None if isinstance(name, str) else "names of layers")),
    "sparsity": between(0, 1),
    "split": one_of("train", "validation", "test"),
    "members": either("auto", whole(0)),
    "probes": either(None, whole(2)),
    "dtype": one_of("auto", "float64", "float32"),
}


def main(folders: Sequence[str], overrides: Sequence[str], config_dir: Path | None = None) -> int:
    """Analyze the runs, and write a table and a figure for all of them and a matrix file for each."""
    options = Composer("coadapt", config_dir).single(overrides)
    check_each(options, _RULES)
    show(*study(Sources.of(runs.find_runs(folders), options, config_dir), options))
    return 0
