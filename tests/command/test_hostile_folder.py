"""A run folder from an untrusted source: no code in it is executed."""

import os
import pickle
from pathlib import Path

import pytest
import torch
import yaml

from runner.runs import Run, find_runs


@pytest.fixture
def finished(finished):
    """Without checksums, because an attacker would adapt them or leave them out."""
    finished.write_status(checksums={})
    return finished


class Bomb:
    """An object that leaves a file behind when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.system, (f"touch {self.trace}",)


@pytest.fixture
def trace(tmp_path) -> Path:
    """The file that exists once foreign code has run."""
    return tmp_path / "trace"


# Group → replacements of its `_target_` and arguments.
TARGETS = {
    "a function that runs commands": ("data", {"_target_": "os.system", "command": "touch {trace}"}),
    "a class that runs commands": ("data", {"_target_": "subprocess.Popen", "args": ["touch", "{trace}"]}),
    "what Hydra's blocklist lets pass": ("model", {"_target_": "pandas.read_pickle", "filepath_or_buffer": "{bomb}"}),
    "torch.load": ("model", {"_target_": "torch.load", "f": "{bomb}", "weights_only": False}),
    "a name that a module imports": ("data", {"_target_": "runner.data.mnist.Path"}),
    "a module that a module imports": ("model", {"_target_": "runner.models.resnet.torch.load", "f": "{bomb}"}),
    "a function of a module": ("data", {"_target_": "runner.data.mnist.load"}),
    "a dotted way out": ("model", {"_target_": "runner.models.resnet.PreActResNet.__init__.__globals__"}),
    "a class of another group": ("task", {"_target_": "runner.models.resnet.PreActResNet"}),
    "a prefix of the package": ("dropout", {"_target_": "runner.dropout_evil.Variant"}),
    "no name": ("dropout", {"_target_": ["os.system"]}),
    "nested": ("schedule", {"extra": {"_target_": "os.system", "command": "touch {trace}"}}),
    "nested in a list": ("schedule", {"extra": [{"_target_": "subprocess.Popen", "args": ["touch", "{trace}"]}]}),
}


def filled(value, **names):
    """Fill in {trace} and {bomb} in a nested value."""
    if isinstance(value, dict):
        return {key: filled(item, **names) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item, **names) for item in value]
    return value.format(**names) if isinstance(value, str) else value


@pytest.mark.parametrize(("group", "part"), TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("flags", [[], ["--config-dir", "mine"]], ids=["plain", "own classes"])
def test_what_its_configuration_names_is_not_called(group, part, flags, call, finished, trace, tmp_path, tree):
    (tmp_path / "mine").mkdir()
    bomb = tmp_path / "bomb.pkl"
    bomb.write_bytes(pickle.dumps(Bomb(trace)))
    config = finished.config()
    config[group] = {**config[group], **filled(part, trace=trace, bomb=bomb)}
    finished.config_file.write_text(yaml.safe_dump(config))
    before = tree(finished.folder)
    result = call("prune", str(finished.folder), *flags, "prune.sparsities=[0.25]")
    assert result.code == 2
    assert group in result.err
    assert len(result.err.splitlines()) == 1
    assert not trace.exists()
    assert tree(finished.folder) == before


@pytest.mark.parametrize(
    "text",
    [
        "data: !!python/object/apply:os.system ['touch {trace}']\n",
        "data: !!python/object/new:subprocess.Popen [['touch', '{trace}']]\n",
        "data: !!python/name:os.system\n",
    ],
)
def test_yaml_tags_make_nothing(text, call, finished, trace):
    finished.config_file.write_text(text.format(trace=trace))
    for command in ("prune", "table"):
        result = call(command, str(finished.folder))
        assert not trace.exists()
        assert str(finished.config_file) in result.err + result.out
        assert "Traceback" not in result.err
    assert call("prune", str(finished.folder)).code == 2
    assert call("list", "runs", str(finished.folder)).code == 0
    assert not trace.exists()


@pytest.mark.parametrize("text", ["[" * 200_000, "{a: " * 100_000, "- " * 200_000], ids=["lists", "mappings", "blocks"])
def test_yaml_nested_without_end_is_damage(text, call, finished):
    """libyaml would crash the process."""
    finished.config_file.write_text(f"seed: 0\nnote:\n  {text}\n")
    result = call("list", "runs", str(finished.folder))
    assert result.code == 0
    assert result.out.startswith("damaged ") and "nested too deeply" in result.out


def test_resolvers_are_not_asked(call, finished, monkeypatch):
    """Interpolations remain plain text."""
    monkeypatch.setenv("SECRET", "0.5")
    config = finished.config()
    config["dropout"]["alpha"] = "${oc.env:SECRET}"
    config["data"]["validation"] = "${oc.env:SECRET}"
    finished.config_file.write_text(yaml.safe_dump(config))
    result = call("prune", str(finished.folder), "prune.sparsities=[0.25]")
    assert result.code == 2
    assert "=${oc.env:SECRET}: expected a number" in result.err


def test_its_checkpoint_is_not_unpickled(call, tmp_path, tiny, trace):
    """Not even if the status claims to belong to the run of the command."""
    words = ("train", *tiny, "dropout=targeted", "outputs=out")
    assert call(*words).code == 0
    (run,) = find_runs([tmp_path / "out"])
    run.write_status(state="running", trained=False)
    for name in ("weights_file", "scores_file"):
        getattr(run, name).unlink()
    torch.save({"step": 1, "model": Bomb(trace)}, run.checkpoint_file)
    result = call(*words)
    assert result.code == 2
    assert f"{run.checkpoint_file.relative_to(tmp_path)} is damaged" in result.err
    assert not trace.exists()


def test_its_weights_are_not_unpickled(call, finished, trace):
    for name in ("weights_file", "scores_file"):
        path = getattr(finished, name)
        whole = path.read_bytes()
        path.write_bytes(pickle.dumps(Bomb(trace)))
        result = call("prune", str(finished.folder), "prune.sparsities=[0.25]")
        assert result.code == 2
        assert f"{path} is damaged" in result.err
        assert not trace.exists()
        path.write_bytes(whole)


def test_the_bomb_is_one(trace, tmp_path):
    """This shows that the tests above can fail."""
    path = tmp_path / "checkpoint.pt"
    torch.save({"step": 1, "model": Bomb(trace)}, path)
    torch.load(path, weights_only=False)
    assert trace.exists()


def test_training_into_a_strangers_folder_is_refused(call, finished, tiny, tree):
    config = finished.config()
    config["data"]["_target_"] = "os.system"
    finished.config_file.write_text(yaml.safe_dump(config))
    finished.write_status(hash="0" * 64)
    before = tree(finished.folder)
    result = call("train", *tiny, f"folder={finished.folder}")
    assert result.code == 2
    assert "another configuration" in result.err
    assert tree(finished.folder) == before


def test_odd_values_of_its_status(call, finished):
    for change in ({"threads": "many"}, {"threads": -1}, {"threads": 10**9}, {"threads": True}):
        finished.write_status(**change)
        result = call("prune", str(finished.folder), "prune.sparsities=[0.25]", "prune.splits=[test]")
        assert result.code == 0, result.err
    assert Run(finished.folder).threads() is None
