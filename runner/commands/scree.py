"""run scree: finished runs at their first k features, beside PCA and networks trained at exactly that width."""

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


def scree(folders: Sequence[str], overrides: Sequence[str], config_dir: Path | None = None) -> int:
    """The command: the first folder's run, compared with all others."""
    if not folders:
        raise ConfigError("run scree needs a run folder, others beside it can follow: run scree outputs/train/…")
    options = Composer("scree", config_dir).single(overrides)
    check_each(options, _RULES)
    first = runs.find_runs(folders[:1])
    # The first folder's runs stand first: of several copies of a run the first is kept.
    sources = Sources.of(list(dict.fromkeys([*first, *runs.find_runs(folders)])), options, config_dir)
    if sum(any(one.run in first for one in group) for group in sources.groups) > 1:
        raise ConfigError(f"{folders[0]} holds runs that differ in more than their seed; name one of them first")
    show(*study(sources, options))
    return 0
