"""run scree FOLDER… [options]: plot loss and metric over the number of features kept, and choose where to cut

  run train model=autoencoder dropout=tail
  run train -m model=autoencoder dropout=none,feature_dropout
  run train -m model=autoencoder dropout=none model.code=2,8
  run scree outputs/train/digits-autoencoder-tail-* outputs/train/digits-autoencoder-*

Compares the runs of the first folder with all others, and averages those that differ only in their seed. Features are
kept in the variant's order; if it has none (dropout=none, feature_dropout, …), those of largest filter norm are kept.
The column "exact" shows runs trained with exactly k features at a place; only that option and the dropout may differ.
For autoencoders, also shows PCA of the training images with k components, the reconstructions for each k (a grid and an
animated GIF), the test set's code by class, and the effect of each feature on the reconstruction.
With low_rank=true, also reduces the layers that read the features to rank k, by the truncated SVD of their weights and
by PCA of their inputs on training images.
The elbow and the fewest features within the tolerance are chosen on the validation split.
Writes CSV, Markdown and figures under outputs/scree.
"""

from collections.abc import Sequence
from pathlib import Path

from runner import runs
from runner.analyses.output import show
from runner.analyses.scree.study import study
from runner.analyses.sources import Sources
from runner.config.compose import Composer
from runner.config.rules import check_each
from runner.errors import ConfigError
from runner.rules import between, either, list_of, one_of, whole

_RULES = {
    "places": either(None, list_of(lambda name: None if isinstance(name, str) else "names of modules, or all")),
    "ks": either(None, list_of(whole(1))),
    "tolerance": between(0, 1),
    "batch_norm": one_of("kept", "recalibrated"),
}


def main(folders: Sequence[str], overrides: Sequence[str], config_dir: Path | None = None) -> int:
    """Compare the runs of the first folder with all others."""
    options = Composer("scree", config_dir).single(overrides)
    check_each(options, _RULES)
    first = runs.find_runs(folders[:1])
    # The first folder's runs come first, because only the first of several copies of a run is kept.
    sources = Sources.of(list(dict.fromkeys([*first, *runs.find_runs(folders)])), options, config_dir)
    if sum(any(one.run in first for one in group) for group in sources.groups) > 1:
        raise ConfigError(f"{folders[0]} holds runs that differ in more than their seed; name one of them first")
    show(*study(sources, options))
    return 0
