"""run bench [options]: measure this machine: what each dropout costs a training step, …

  run bench                                       the first four below, some minutes
  run bench only=[step]                           what each dropout costs a training step
  run bench pairs=50 only=[data,sweep]            narrower intervals
  run bench model=resnet32_he dropouts=[ramping_unit,weight_dropout]

Two things are timed in turn; reported are medians of their ratio with 95 % intervals.

What is measured, chosen by only=[…]
  step          a training step with dropout over one without, and over a port that sorts every layer
  data          training with its data pipeline over steps on one batch
  sweep         a point of a pruning sweep over a bare forward pass
  matmul        a training step's share of the speed of large matrix products
  transformer   training the Transformer over torch.nn.Transformer, and with dropout over without
  decoding      translating with the key-value cache over without
  language      training a GPT over the same model written plainly, and sampling text with the cache over without
  tail          TailDropout over one multiplication by a ready mask

Prints one table and writes it as a CSV file, with a warning if other processes load the machine. Ratios can be compared
between machines, times can't.
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
    """Measure, print one table, write one CSV file."""
    configs = Configurations(overrides, config_dir)
    config = configs.of()
    for name in config["dropouts"]:
        configs.of(f"dropout={name}")  # an unknown one is found now, not after some minutes
    if config["threads"] is not None:
        torch.set_num_threads(config["threads"])
    machine = machine_of(config)
    # Written now rather than after some minutes: the folder may not be writable.
    path = Path(config["out"], time.strftime("bench-%Y%m%d-%H%M%S.csv"))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_rows(path, COLUMNS, [])
    results = measure_rows(config, configs.parts, lambda result: append_row(path, COLUMNS, csv_row(result, machine)))
    print(table(results, machine))
    if said := warning(results):
        print(said)
    print(path)
    return 0
