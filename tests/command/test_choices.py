"""Criteria and granularities: several at once, and a user's own in a --config-dir."""

import pytest
import torch
from safetensors.torch import load_file

from runner.config.choices import make, settle
from runner.config.paths import CONF
from runner.experiment import Experiment
from runner.files import read_rows
from runner.pruning.ranking import Ranking
from runner.runs import Run
from runner.stored import stored_config

MODULE = """
from runner.pruning.granularities.weight import WeightMembers
from runner.models.layers import prunable_layers


class Largest:
    '''The opposite of magnitude: what is largest goes first.'''

    def scores(self, members, evidence):
        return {name: -scores for name, scores in members.magnitude().items()}


class Groups(WeightMembers):
    def __init__(self, layers, size):
        super().__init__("groups", layers)
        self.size = size

    def rows(self, scores):
        return {name: scores[name].reshape(-1, self.size) for name in self.weights}


class GroupsOf:
    def __init__(self, size):
        self.size = size

    def members(self, model, layers=None, example=None):
        layers = prunable_layers(model, layers)
        return Groups({n: layer for n, layer in layers.items() if layer.weight[0].numel() % self.size == 0}, self.size)
"""


@pytest.fixture
def own(tmp_path):
    """Create a folder with criterion/largest.yaml, granularity/two_of_four.yaml and the module with their classes."""
    folder = tmp_path / "own files"
    for group, name, content in (
        ("criterion", "largest", "_target_: my_pruning.Largest\n"),
        ("granularity", "groups", "_target_: my_pruning.GroupsOf\nlabel: groups of weights\nsize: 4\n"),
    ):
        (folder / group).mkdir(parents=True)
        (folder / group / f"{name}.yaml").write_text(f"# mine\n{content}")
    (folder / "my_pruning.py").write_text(MODULE)
    return folder


def rows_by(run, *columns):
    return {tuple(row[column] for column in columns) for row in read_rows(run.pruning_file)}


def test_ones_own_criterion_and_pattern_need_no_change_of_the_package(call, own, tiny, tmp_path):
    sweep = ("prune.criterion=[magnitude,largest]", "prune.granularity=[groups,{groups:{size:2}}]")
    result = call("train", *tiny, *sweep, "folder=run", "--config-dir", str(own))
    assert result.code == 0, result.err
    run = Run(tmp_path / "run")
    found = rows_by(run, "granularity", "scores", "sparsity")
    for key in ("groups", "groups(size=2)"):
        for criterion in ("magnitude", "largest"):
            assert (key, criterion, "0.5") in found
    # The two smallest of every four weights are zero.
    asked = {"device": "cpu", "data": {}}
    config = {**stored_config(run, asked, own), "prune": run.config()["prune"]}
    experiment = Experiment.from_config(config)
    experiment.load(run)
    members = make("granularity", config["prune"]["granularity"][0]).members(experiment.model)
    masks = members.masks(Ranking(members.magnitude()).pruned(0.5))
    assert masks
    for name, mask in masks.items():
        groups, weights = (tensor.flatten(1).reshape(-1, 4) for tensor in (mask, members.weights[name].detach().abs()))
        assert (groups.sum(1) == 2).all()
        removed, kept = weights.masked_fill(~groups, 0), weights.masked_fill(groups, torch.inf)
        assert (removed.max(1).values <= kept.min(1).values).all()
    listed = call("list", "criterion", "--config-dir", str(own))
    assert "largest" in listed.out and "magnitude" in listed.out


def test_a_stored_sweep_of_ones_own_is_not_made_without_the_folder(call, own, tiny):
    assert call("train", *tiny, "prune.criterion=largest", "folder=run", "--config-dir", str(own)).code == 0
    again = call("prune", "run", "prune.sparsities=[0.3]")
    assert again.code == 0, again.err  # its classes are in the package; only the sweep differs
    unknown = call("prune", "run", "prune.criterion=largest")
    assert (unknown.code, "prune.criterion=largest: unknown" in unknown.err) == (2, True)


def test_several_criteria_at_once_and_the_older_name(call, finished, tmp_path):
    before = load_file(finished.weights_file)
    result = call("prune", str(finished.folder), "prune.sparsities=[0.5]", "prune.criterion=[magnitude,random]")
    assert result.code == 0, result.err
    assert {("magnitude",), ("random",)} <= rows_by(finished, "scores")
    older = call("prune", str(finished.folder), "prune.sparsities=[0.25]", "prune.scores=random")
    assert older.code == 0, older.err
    assert ("random", "0.25") in rows_by(finished, "scores", "sparsity")
    assert all(torch.equal(tensor, before[name]) for name, tensor in load_file(finished.weights_file).items())


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("prune.criterion=magnitud", "prune.criterion=magnitud: unknown; did you mean magnitude?"),
        ("prune.granularity=[weight,untit]", "prune.granularity=untit: unknown; did you mean unit?"),
        ("prune.granularity=[{weight:{n:1}}]", "prune.granularity: weight has no parameter n; it has no parameters"),
        ("prune.scores=magnitud", "prune.scores=magnitud: unknown; did you mean magnitude?"),
    ],
)
def test_what_is_unknown_is_named_and_nothing_is_written(call, tiny, tmp_path, word, said):
    result = call("train", *tiny, word, "folder=run")
    assert result.code == 2
    assert said in result.err
    assert not (tmp_path / "run").exists()


def test_parameters_that_differ_from_the_files_belong_to_the_key(own):
    parts = settle("granularity", ["groups", {"groups": {"size": 4}}, {"groups": {"size": 2}}], [CONF, own])
    assert [part["key"] for part in parts] == ["groups", "groups", "groups(size=2)"]
