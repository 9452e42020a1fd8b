"""run bench [options]: measure what each dropout costs a training step on this machine, …

  run bench                                       the first four below; takes some minutes
  run bench only=[step]                           what each dropout costs a training step
  run bench pairs=50 only=[data,sweep]            narrower intervals
  run bench model=resnet32_he dropouts=[ramping_unit,weight_dropout]

Each measurement times two alternatives, interleaved, and reports the median ratio with a 95 % interval.

Measurements, chosen by only=[…]
  step          a training step with dropout relative to one without, and to a port that sorts every layer
  data          training with its data pipeline relative to steps on a single batch
  sweep         a point of a pruning sweep relative to a bare forward pass
  matmul        the speed of a training step as a share of the speed of large matrix products
  transformer   training the Transformer relative to torch.nn.Transformer, and with dropout relative to without
  decoding      translation with the key-value cache relative to without
  language      training a GPT relative to a plain implementation, and sampling text with the cache relative to without
  tail          TailDropout relative to one multiplication by a precomputed mask

Prints a table, writes it as a CSV file, and warns if other processes load the machine. Ratios can be compared between
machines, times cannot.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import torch

from runner.benchmarks.configurations import Configurations
from runner.benchmarks.report import COLUMNS, csv_row, table
from runner.benchmarks.run import machine_of, measure_rows, warning
from runner.files import append_row, write_rows


def main(folders: Sequence[str], overrides: Sequence[str], config_dir: Path | None = None) -> int:
    """Run the benchmarks, print the table and write the CSV file."""
    configs = Configurations(overrides, config_dir)
    config = configs.of()
    for name in config["dropouts"]:
        configs.of(f"dropout={name}")  # find an unknown name now, not after minutes of measuring
    if config["threads"] is not None:
        torch.set_num_threads(config["threads"])
    machine = machine_of(config)
    # Create the file now, because the folder may not be writable.
    path = Path(config["out"], time.strftime("bench-%Y%m%d-%H%M%S.csv"))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_rows(path, COLUMNS, [])
    results = measure_rows(config, configs.parts, lambda result: append_row(path, COLUMNS, csv_row(result, machine)))
    print(table(results, machine))
    if said := warning(results):
        print(said)
    print(path)
    return 0
