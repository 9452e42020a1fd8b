"""run search [options]: find the option values that give the best networks after pruning

  run search dropout=targeted 'dropout.alpha=interval(0.1,0.9)' 'dropout.gamma=choice(0.5,0.75)' search.sparsity=0.75
  run search dropout=ramping 'schedule.learning_rate=tag(log,interval(0.01,0.5))' search.bytes=50kB search.trials=50
  run search dropout=none,targeted 'schedule.batch_size=range(32,129,32)' search.sparsity=0.5 search.pruner=median

Search spaces are written in Hydra's syntax: interval(a,b), with tag(log,…) on a logarithmic scale, with int(…) for
whole numbers; range(a,b,step); choice(x,y) or x,y. All other options are those of run train. Optuna's sampler (TPE)
proposes values; each trial is a run like any other, in its own folder, and a finished one is not trained again.
Trials are judged on validation examples only. The study is an SQLite file; running the same command continues it.
Needs the extra: pip install '.[search]'
"""

from collections.abc import Sequence
from pathlib import Path

from runner.config.compose import Composer
from runner.config.rules import check_each
from runner.errors import ConfigError
from runner.extras import need
from runner.reporting.formats import COSTS
from runner.rules import between, either, one_of, whole


def main(folders: Sequence[str], overrides: Sequence[str], config_dir: Path | None = None) -> int:
    """Run the search, and print its trials and the best one."""
    need("run search", "optuna", "search")
    from runner.compaction.budget import amount, null_or
    from runner.searching import PRUNERS, search

    own = [text for text in overrides if text.lstrip("+").startswith("search.")]
    options = Composer("search").single(own)["search"]
    rules = {
        **{"trials": whole(1), "startup": whole(1), "seed": whole(0), "pruner": one_of(*PRUNERS)},
        **{"sparsity": either(None, between(0, 1)), **dict.fromkeys(COSTS, null_or(amount))},
    }
    check_each(options, rules, "search.")
    limits = [name for name in COSTS if options[name] is not None]
    if (options["sparsity"] is None) == (not limits):
        raise ConfigError(
            "run search needs one goal: search.sparsity=0.9, or a budget: search.bytes=50kB, flops, parameters"
        )
    return search(Composer("train", config_dir), [text for text in overrides if text not in own], options)
