"""A user's own YAML files and classes, in addition to the package's."""

import sys

import pytest
import yaml

from runner.files import read_rows
from runner.runs import Run

VARIANT = """
import torch
from runner.dropout.base import WeightVariant


class Halved(torch.nn.Module):
    def forward(self, weight):
        return weight * 0.5


class Mine(WeightVariant):
    def __init__(self, strength):
        super().__init__()
        self.strength = strength

    def parametrization(self, weight):
        return Halved()
"""


@pytest.fixture
def own(tmp_path):
    """Create a folder with dropout/mine.yaml and the module with its class."""
    folder = tmp_path / "own files"
    (folder / "dropout").mkdir(parents=True)
    (folder / "dropout" / "mine.yaml").write_text("# weights halved\n_target_: mine_module.Mine\nstrength: 2\n")
    (folder / "mine_module.py").write_text(VARIANT)
    return folder


def test_trains_and_prunes(call, own, tiny, tmp_path):
    words = (*tiny, "dropout=mine", "dropout.strength=3", "folder=run")
    result = call("train", *words, "--config-dir", str(own))
    assert result.code == 0, result.err
    run = Run(tmp_path / "run")
    assert run.state() == "finished"
    assert run.config()["dropout"] == {"name": "mine", "_target_": "mine_module.Mine", "strength": 3}


def test_an_edited_class_is_another_run(call, own, tiny, monkeypatch):
    """Results of the old class are not reused. Modules that the class's module imports count as well."""
    monkeypatch.delitem(sys.modules, "mine_module", raising=False)  # from the folder of another test
    (own / "helpers.py").write_text("FACTOR = 0.5\n")
    module = own / "mine_module.py"
    module.write_text(VARIANT.replace("import torch\n", "import torch\nfrom helpers import FACTOR\n"))
    words = ("train", *tiny, "dropout=mine", "outputs=out", "--config-dir", str(own))

    def train():
        result = call(*words)
        assert result.code == 0, result.err
        *_, said, name = result.out.splitlines()
        return name, said == "already finished, nothing was trained; force=true trains again"

    first = train()
    assert (first[1], train()) == (False, (first[0], True))
    (own / "helpers.py").write_text("FACTOR = 0.25\n")
    second = train()
    assert not second[1]
    assert second[0] != first[0]
    module.write_text(VARIANT)
    named = call(*words, f"folder={first[0]}")
    assert named.code == 2
    assert "holds a run of another configuration" in named.err


def test_a_stored_run_needs_the_folder_again(call, own, tiny, tmp_path):
    assert call("train", *tiny, "dropout=mine", "folder=run", f"--config-dir={own}").code == 0
    refused = call("prune", "run", "prune.sparsities=[0.25]")
    assert refused.code == 2
    assert "dropout._target_=mine_module.Mine: expected a class of runner.dropout" in refused.err
    assert call("prune", "run", "prune.sparsities=[0.25]", "--config-dir", str(own)).code == 0


def test_an_edited_class_is_not_swept(call, own, tiny, tmp_path, monkeypatch):
    """Its weights were trained with the unedited class."""
    monkeypatch.delitem(sys.modules, "mine_module", raising=False)
    assert call("train", *tiny, "dropout=mine", "folder=run", f"--config-dir={own}").code == 0
    before = (tmp_path / "run" / "pruning.csv").read_bytes()
    (own / "mine_module.py").write_text(VARIANT.replace("* 0.5", "* 0.25"))
    refused = call("prune", "run", "prune.sparsities=[0.25]", "--config-dir", str(own))
    assert refused.code == 2
    assert "dropout._target_=mine_module.Mine has a different source than when the run was trained" in refused.err
    assert len(refused.err.splitlines()) == 1
    assert (tmp_path / "run" / "pruning.csv").read_bytes() == before
    (own / "mine_module.py").write_text(VARIANT)
    assert call("prune", "run", "prune.sparsities=[0.25]", "--config-dir", str(own)).code == 0


def test_sweeps(call, own, tiny, tmp_path):
    words = ("train", "-m", *tiny, "dropout=none,mine", "outputs=out", "--config-dir", str(own))
    result = call(*words)
    assert result.code == 0, result.err
    assert len(list((tmp_path / "out" / "train").iterdir())) == 2


def test_own_values_are_checked(call, own, tmp_path):
    for words, said in (
        (["dropout=mnie"], "did you mean mine?"),
        (["dropout=mine", "dropout.strength=much"], "dropout.strength=much: expected a number"),
        (["dropout=mine", "+dropout.other=1"], "'other'"),
    ):
        result = call("train", "debug=smoke", *words, "folder=run", "--config-dir", str(own))
        assert result.code == 2
        assert said in result.err
    assert not (tmp_path / "run").exists()


def test_without_the_flag_foreign_classes_are_refused(call, own, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(own)
    result = call("train", "debug=smoke", "dropout._target_=mine_module.Mine", "+dropout.strength=1", "folder=run")
    assert result.code == 2
    assert "dropout._target_=mine_module.Mine: expected a class of runner.dropout" in result.err
    unknown = call("train", "debug=smoke", "dropout=mine", "folder=run")
    assert unknown.code == 2
    assert "dropout=mine: unknown" in unknown.err
    assert not (tmp_path / "run").exists()


def test_files_that_can_not_be_read(call, own, tmp_path):
    for text in ("a: [1\n", "_target_: nowhere.Thing\n", "strength: 1\n", "_target_: mine_module.torch\n"):
        (own / "dropout" / "mine.yaml").write_text(text)
        result = call("train", "debug=smoke", "dropout=mine", "folder=run", "--config-dir", str(own))
        assert result.code == 2, text
        assert result.err.startswith("run: ")
        assert len(result.err.splitlines()) <= 2
    assert not (tmp_path / "run").exists()


def test_experiments_of_ones_own(call, own, tiny, tmp_path):
    (own / "experiment").mkdir()
    text = yaml.safe_dump({"defaults": [{"override /dropout": "targeted"}], "dropout": {"alpha": 0.25}, "seed": 7})
    (own / "experiment" / "quarter.yaml").write_text(f"# @package _global_\n# a quarter\n{text}")
    words = ("train", *tiny, "experiment=quarter", "folder=run", "--config-dir", str(own))
    assert call(*words).code == 0
    config = Run(tmp_path / "run").config()
    assert (config["dropout"]["alpha"], config["dropout"]["gamma"], config["seed"]) == (0.25, 0.75, 7)


TASK = """
from runner.tasks.classification import Classification
from runner.tasks.metrics import Metric


class Errors(Classification):
    headline = "errors"
    metrics = sweep_metrics = (Metric("errors", "share of errors", percent=True, higher_is_better=False),)

    def training_loss(self, model, batch):
        loss, sums, examples = super().training_loss(model, batch)
        return loss, {"errors": examples - sums["accuracy"]}, examples

    def evaluate(self, model, batches):
        found = super().evaluate(model, batches)
        return {"errors": 1 - found.pop("accuracy"), **found}

    validate = evaluate
"""


def test_a_task_of_ones_own_says_how_its_metric_is_printed(call, own, tiny, tmp_path):
    """Tables, lists and budgets read the metric from the run folder, without the class."""
    (own / "task").mkdir()
    (own / "task" / "errors.yaml").write_text("# counts errors\n_target_: errors_module.Errors\n")
    (own / "errors_module.py").write_text(TASK)
    words = ("task=errors", "data.validation=0.2", "prune.splits=[validation,test]", "outputs=out")
    trained = call("train", *tiny, *words, "--config-dir", str(own))
    assert trained.code == 0, trained.err
    assert "test share of errors (%) after pruning" in trained.out
    run = next((tmp_path / "out").rglob("status.json")).parent
    rows = [row for row in Run(run).pruning_rows() if row["granularity"] == "weight"]
    printed = next(f"{100 * float(r['errors']):.2f}" for r in rows if (r["split"], r["sparsity"]) == ("test", "0.5"))
    table = call("table", "out", "outputs=out")
    assert "## test share of errors (%), digits" in table.out
    assert printed in table.out
    fitted = call("fit", str(run), "bytes=1GB", "granularity=weight", "outputs=out")
    assert fitted.code == 0, fitted.err
    best = min(float(row["errors"]) for row in rows if row["split"] == "validation")
    assert f"validation errors {100 * best:.2f}" in fitted.out.splitlines()[0]


SCHEDULE = """
import torch

from runner.parameters import Positive, checked


class Constant:
    weight_decay, clip_norm = 0.0, None

    @checked
    def __init__(self, learning_rate: Positive = 0.01) -> None:
        self.learning_rate = learning_rate

    def optimizer(self, groups):
        return torch.optim.RMSprop(groups, lr=self.learning_rate)

    def rate(self, step, total):
        return self.learning_rate
"""


def test_a_schedule_of_ones_own_is_a_class_and_a_yaml(call, own, tiny, tmp_path):
    (own / "schedule").mkdir()
    content = "# RMSprop\n_target_: schedule_module.Constant\nlearning_rate: 0.01\nlength: 8it\nbatch_size: 64\n"
    (own / "schedule" / "constant.yaml").write_text(content)
    (own / "schedule_module.py").write_text(SCHEDULE)
    words = (*tiny, "schedule=constant", "folder=run", "--config-dir", str(own))
    refused = call("train", *words, "schedule.learning_rate=-1")
    assert (refused.code, refused.err) == (2, "run: schedule.learning_rate=-1: expected a number above 0\n")
    assert call("train", *words).code == 0
    rates = {row["learning_rate"] for row in read_rows(tmp_path / "run" / "metrics.csv")}
    assert rates == {"0.01"}
