"""run compact FOLDER… [options]: make the networks of finished runs smaller, verify and measure them

  run train model=resnet32 dropout=targeted_unit
  run compact outputs/train/digits-resnet32-targeted_unit-* sparsity=0.75 granularity=unit
  run compact outputs/train/digits-resnet32-targeted-* sparsity=0.9 granularity=weight

Prunes in the same way as the sweep. Filters and features (unit, feature) are cut out of the network. Weights are packed
into a file without the zeros, which sparse kernels can execute. The outputs on the test split are compared with those
of the pruned network, and nothing is kept if they differ. Then sizes, FLOPs and times are compared with those of the
whole network.
Writes <run>/compact/<granularity>-<sparsity>/: model.safetensors and architecture.json, or packed.safetensors;
certificate.csv, certificate.md. In Python, without the run: network = runner.load_compact(folder)

With widths=[0.25,0.5,0.75,1], writes <run>/compact/elastic/ instead: one file that can be loaded with any fraction
of the features (dropout=tail orders them), as in runner.load_compact(folder, width=0.37), and the metrics and costs of
each width.
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from runner import runs
from runner.compaction.certificate import MARKDOWN, markdown
from runner.compaction.cutting import REMOVALS
from runner.compaction.measuring import Timing
from runner.compaction.requests import options_of_widths, requests_for
from runner.compaction.run import make_compact
from runner.compaction.widths import MARKDOWN as WIDTHS
from runner.compaction.widths import make_elastic
from runner.config.compose import Composer
from runner.config.rules import check_each
from runner.errors import ConfigError
from runner.experiment import Experiment
from runner.rules import between, either, list_of, one_of, whole
from runner.stored import stored_config

_RULES = {
    "sparsity": between(0, 1, open_end=True),
    "floor": either("auto", between(0, 1, open_end=True)),
    "removal": one_of(*REMOVALS),
    "batch_norm": one_of("auto", "kept", "recalibrated"),
    "round_to": whole(1),
    "batches": list_of(whole(1)),
    "rounds": whole(6),
    "turn": between(0, 10),
    "threads": either(None, whole(1)),
}


def main(folders: Sequence[str], overrides: Sequence[str], config_dir: Path | None = None) -> int:
    """Write the compact networks. All runs and options are checked before the first one is written."""
    options = Composer("compact", config_dir).single(overrides)
    if options["widths"] is not None:
        options = options_of_widths(options)
    elif options["sparsity"] is None:
        raise ConfigError("sparsity must be given: sparsity=0.9")
    check_each(options, _RULES)
    if options["threads"]:
        torch.set_num_threads(options["threads"])
    configs = {run: stored_config(run, options, config_dir) for run in runs.find_runs(folders)}
    jobs = [
        (run, config, request)
        for run, config in configs.items()
        for request in requests_for(run, config, options, config_dir)
    ]
    timing = Timing(*(options[name] for name in ("batches", "rounds", "turn", "compile", "onnxruntime", "layers")))
    elastic = options["widths"] is not None
    for run, config, request in jobs:
        with run.locked():
            folder = run.elastic_folder if elastic else run.compact_folder(request.granularity["key"], request.sparsity)
            report = folder / (WIDTHS if elastic else MARKDOWN)
            if report.is_file() and not options["force"]:
                print(report.read_text())
                print(f"{folder} (already exists; force=true makes it again)")
                continue
            experiment = Experiment.from_config(config)
            if elastic:
                print(make_elastic(experiment, run, request, options["widths"], timing))
            else:
                print(markdown(make_compact(experiment, run, request, timing)))
            print(folder)
    return 0
