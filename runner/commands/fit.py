"""run fit FOLDER… [options]: find the smallest pruned network within a budget of accuracy, bytes, FLOPs, latency, …

  run fit outputs/train accuracy_drop=0.01          the smallest network at most one point below the best unpruned one
  run fit outputs/train bytes=100kB                 the best network of at most 100 kB
  run fit outputs/train accuracy_drop=0.02 smallest=flops parameters=1M
  run fit outputs/train latency=5ms                 the best network that takes at most 5 ms for one image

Reads pruning.csv of finished runs, which gives the costs that each network has once it is cut (unit, feature) or packed
(weight). The network is chosen on validation rows and confirmed once on test rows; if none is within the budget, the
nearest ones are named. Writes CSV, Markdown and Pareto figures under outputs/fit.
For latency, the networks within the rest of the budget are built and timed on this machine, interleaved, each with its
fastest execution method (PyTorch's eager mode, sparse kernels). Networks that need no fewer FLOPs and bytes than a
better one are not timed. The chosen network is timed once more.
"""

from collections.abc import Sequence
from pathlib import Path

from runner import runs
from runner.analyses.fit import study
from runner.analyses.output import show
from runner.compaction.budget import amount, null_or, seconds
from runner.config.compose import Composer
from runner.config.rules import check_each
from runner.errors import ConfigError
from runner.reporting.formats import COSTS
from runner.rules import above, either, one_of, whole


def main(folders: Sequence[str], overrides: Sequence[str], config_dir: Path | None = None) -> int:
    """Print the chosen network and the runners-up, and write tables and Pareto figures."""
    options = Composer("fit", config_dir).single(overrides)
    rules = {"accuracy_drop": either(None, above(0)), "smallest": one_of(*COSTS), "batch": whole(1)}
    check_each(options, {**rules, **dict.fromkeys(COSTS, null_or(amount)), "latency": null_or(seconds)})
    if all(options[name] is None for name in (*COSTS, "accuracy_drop", "latency")):
        raise ConfigError(
            "run fit needs a budget: accuracy_drop=0.01, parameters=100k, bytes=1MB, flops=10M or latency=5ms"
        )
    show(*study(runs.find_runs(folders), options, config_dir))
    return 0
