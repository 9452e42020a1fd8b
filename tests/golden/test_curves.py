"""Learning curves of three small runs, compared with those stored in curves.csv.

Rounding differs between processors and the differences grow in training, so the runs are short and compared with a
tolerance. They detect changes that affect every training: an initialization, a rate, an order of batches, a loss. If
such a change is intended:

    python tests/golden/test_curves.py    # writes curves.csv again
"""

import csv
from pathlib import Path

import pytest

from runner.config.compose import Composer
from runner.experiment import Experiment
from runner.running import settle
from runner.training.callbacks import Callback

FILE = Path(__file__).with_name("curves.csv")
COMMON = ["precision=float32", "limit=300", "seed=0"]
RUNS = {
    "classification": ["model=lenet", "dropout=targeted", "schedule.batch_size=64"],
    "reconstruction": ["model=autoencoder", "dropout=tail", "schedule.batch_size=64"],
    "language": ["model=gpt", "model.layers=1", "model.width=0.25", "data.context=32", "dropout=none"],
}
LENGTHS = {"classification": "3ep", "reconstruction": "3ep", "language": "30it"}
TOLERANCES = {"loss": 0.005, "accuracy": 0.01}  # relative, and absolute in [0, 1]


class Rows(Callback):
    def __init__(self):
        self.rows = []

    def on_epoch(self, training, row):
        self.rows.append({key: value for key, value in row.items() if key.endswith(("_loss", "_accuracy"))})


def curve(name):
    """Return the rows of a run, each with loss and accuracy of training and validation."""
    words = [*RUNS[name], *COMMON, f"schedule.length={LENGTHS[name]}"]
    callback = Rows()
    Experiment.from_config(settle(Composer("train").single(words))).training().fit([callback])
    return callback.rows


@pytest.mark.parametrize("name", RUNS)
def test_learning_curves_are_what_they_were(name):
    with FILE.open() as lines:
        expected = [row for row in csv.DictReader(lines) if row["run"] == name]
    found = {(str(epoch), key): value for epoch, row in enumerate(curve(name), 1) for key, value in row.items()}
    assert found.keys() == {(row["epoch"], row["metric"]) for row in expected}
    for row in expected:
        value, before = found[row["epoch"], row["metric"]], float(row["value"])
        if row["metric"].endswith("_loss"):
            assert value == pytest.approx(before, rel=TOLERANCES["loss"]), row
        else:
            assert value == pytest.approx(before, abs=TOLERANCES["accuracy"]), row


if __name__ == "__main__":
    with FILE.open("w") as out:
        out.write("run,epoch,metric,value\n")
        for name in RUNS:
            for epoch, row in enumerate(curve(name), 1):
                out.writelines(f"{name},{epoch},{key},{value:.6f}\n" for key, value in row.items())
