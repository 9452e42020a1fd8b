"""Bad input: one or two clear lines, exit code 2, no traceback, nothing written."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

# The words after `run train`, and what the message must contain: option, value and allowed values.
BAD = {
    "alpha above 1": (["dropout=targeted", "dropout.alpha=1.5"], ["dropout.alpha=1.5", "from 0 to 1"]),
    "alpha below 0": (["dropout=targeted", "dropout.alpha=-0.1"], ["dropout.alpha=-0.1", "from 0 to 1"]),
    "gamma above 1": (["dropout=ramping", "dropout.gamma=2"], ["dropout.gamma=2", "from 0 to 1"]),
    "gamma not a number": (["dropout=targeted", "dropout.gamma=nan"], ["dropout.gamma=nan", "from 0 to 1"]),
    "ramp too short": (["dropout=ramping", "dropout.ramp=[0.5]"], ["dropout.ramp=[0.5]", "three fractions"]),
    "sparsity above 1": (["prune.sparsities=[0,1.5]"], ["prune.sparsities=[0,1.5]", "from 0 to 1"]),
    "sparsity a word": (["prune.sparsities=[abc]"], ["prune.sparsities=[abc]", "from 0 to 1"]),
    "sparsities no list": (["prune.sparsities=abc"], ["prune.sparsities=abc", "a list"]),
    "sparsities empty": (["prune.sparsities=[]"], ["prune.sparsities=[]", "a list"]),
    "floor above 1": (["prune.floor=2"], ["prune.floor=2", "auto or a number from 0 to 1"]),
    "scores unknown": (["prune.scores=foo"], ["prune.scores=foo", "own, magnitude, random"]),
    "prune null": (["prune=null"], ["prune=null", "grid"]),
    "model unknown": (["model=resnet33"], ["model=resnet33", "did you mean resnet32", "resnet32_he"]),
    "model null": (["model=null"], ["model=null", "resnet32"]),
    "model empty": (["model="], ["model=", "resnet32"]),
    "dropout unknown": (["dropout=target"], ["dropout=target", "did you mean targeted?", "ramping"]),
    "dropout a list": (["dropout=[none]"], ["dropout=[none]", "targeted"]),
    "schedule unknown": (["schedule=fsat"], ["schedule=fsat", "did you mean fast?"]),
    "length negative": (["schedule.length=-5ep"], ["schedule.length=-5ep", "30ep, 500it"]),
    "length zero": (["schedule.length=0ep"], ["schedule.length=0ep", "positive"]),
    "length without a unit": (["schedule.length=5"], ["schedule.length=5", "30ep, 500it"]),
    "length unreadable": (["schedule.length=five"], ["schedule.length=five", "30ep, 500it"]),
    "batch size 0": (["schedule.batch_size=0"], ["schedule.batch_size=0", "at least 1"]),
    "batch size a fraction": (["schedule.batch_size=1.5"], ["schedule.batch_size=1.5", "a whole number"]),
    "learning rate 0": (["schedule.learning_rate=0"], ["schedule.learning_rate=0", "above 0"]),
    "validation 1": (["data.validation=1"], ["data.validation=1", "below 1"]),
    "seed negative": (["seed=-1"], ["seed=-1", "at least 0"]),
    "seed a word": (["seed=a"], ["seed=a", "a whole number"]),
    "seed a mapping": (["seed={a:1}"], ["seed=", "a whole number"]),
    "several seeds without -m": (["seed=0,1"], ["seed=0,1", "need -m"]),
    "several models without -m": (["model=resnet32,resnet32_he"], ["model=resnet32,resnet32_he", "need -m"]),
    "force no answer": (["force=maybe"], ["force=maybe", "true or false"]),
    "precision unknown": (["precision=fp16"], ["precision=fp16", "auto, float32, bf16"]),
    "device unknown": (["device=tpu"], ["device=tpu", "auto, cpu, cuda, cuda:N, mps"]),
    "device without its number": (["device=cuda:"], ["device=cuda:", "cuda:N"]),
    "folder a list": (["folder=[a]"], ["folder=[a]", "a path"]),
    "outputs null": (["outputs=null"], ["outputs=null", "a path"]),
    "stray word": (["targeted"], ["'targeted' is not understood", "name=value"]),
    "no name": (["=5"], ["'=5' is not understood", "name=value"]),
    "group unknown": (["dropuot=targeted"], ["there is no option dropuot", "did you mean dropout?"]),
    "option unknown": (["dropout=targeted", "dropout.gama=0.5"], ["dropout.gama", "did you mean dropout.gamma?"]),
    "option without its group": (["dropout=targeted", "gamma=0.5"], ["gamma", "did you mean dropout.gamma?"]),
    "option of another choice": (["dropout=none", "dropout.alpha=0.5"], ["there is no option dropout.alpha"]),
    "option added where nobody reads it": (["+prune.foo=1"], ["there is no option prune.foo"]),
    "group added where nobody reads it": (["+model@foo=resnet32"], ["+model@foo=resnet32", "there is no option"]),
    "argument that the class lacks": (["+dropout.foo=1"], ["dropout=none", "'foo'"]),
    "name changed": (["+model.name=../x"], ["there is no option model.name"]),
    "option left out": (["~seed"], ["~seed", "not removed"]),
    "scope of another granularity": (
        ["prune.granularity=[weight,n_of_m]", "prune.scope=global"],
        ["prune.scope=global", "not for prune.granularity=n_of_m", "auto, layer"],
    ),
    "data root not given": (["data=image_folder"], ["data.root must be given"]),
    "data root missing": (["data=image_folder", "data.root=nowhere"], ["data.root=nowhere", "no such folder"]),
    "data set missing": (
        ["data=mnist", "data.root=nowhere", "data.download=false"],
        ["data.root=nowhere", "no MNIST here", "data.download=true"],
    ),
    "class of another place": (["data._target_=os.system"], ["data._target_=os.system", "a class of runner.data"]),
    "class of another kind": (
        ["dropout._target_=runner.models.resnet.ResNet"],
        ["dropout._target_=runner.models.resnet.ResNet", "a class of runner.dropout"],
    ),
    "class that a module imports": (
        ["model._target_=runner.models.resnet.nn.Linear"],
        ["model._target_=runner.models.resnet.nn.Linear"],
    ),
    "class that is none": (["model._target_=runner.models.resnet.Nope"], ["model._target_", "Nope"]),
    "config dir missing": (["--config-dir", "nowhere"], ["--config-dir nowhere", "no such folder"]),
    "interpolation of nothing": (["folder=${nothing}"], ["nothing"]),
    "interpolation of itself": (["seed=${seed}"], ["ecursive"]),
    "task for another kind of model": (
        ["model=mlp", "task=reconstruction"],
        ["task=reconstruction expects a reconstruction", "(1, 8, 8)", "model=mlp returns (10,)"],
    ),
    "one job whose task and model don't fit": (
        ["-m", "model=mlp,autoencoder", "task=classification"],
        ["task=classification expects a logit for each class", "(10,)", "model=autoencoder returns (1, 8, 8)"],
    ),
    "one bad job of three": (["-m", "seed=0,1,-1"], ["seed=-1", "at least 0"]),
    "one bad choice of two": (["-m", "dropout=none,targetd"], ["dropout=targetd", "did you mean targeted?"]),
    "one job's class refuses": (
        ["-m", "dropout=ramping", "dropout.ramp=[0.2,0.4,0.4],[0.5]"],
        ["dropout.ramp=[0.5]", "three fractions"],
    ),
    "one job's data is missing": (
        ["-m", "data=digits,mnist", "++data.root=nowhere", "++data.download=false"],
        ["data=digits", "root"],
    ),
    "no workers": (
        ["-m", "seed=0,1", "hydra/launcher=parallel", "hydra.launcher.n_jobs=0"],
        ["hydra.launcher.n_jobs=0", "at least 1, or -1"],
    ),
    "two jobs in one folder": (["-m", "seed=0,1", "folder=x"], ["2 of the 2 jobs would share the folder x"]),
}


@pytest.mark.parametrize(("words", "expected"), BAD.values(), ids=BAD)
def test_says_what_is_wrong_and_writes_nothing(words, expected, call, tmp_path):
    result = call("train", "debug=smoke", *words)
    assert result.code == 2
    assert result.err.startswith("run: ")
    assert len(result.err.splitlines()) <= 2
    for text in expected:
        assert text in result.err
    assert result.out == ""
    assert list(tmp_path.iterdir()) == []


def test_as_a_process_too(command, tmp_path):
    result = command("train", "dropout=targeted", "dropout.alpha=2")
    assert (result.code, result.out) == (2, "")
    assert result.err == "run: dropout.alpha=2: expected a number from 0 to 1\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_device_that_is_not_there(call, tmp_path):
    for device in ("cuda", "cuda:1"):
        result = call("train", "debug=smoke", f"device={device}")
        assert result.code == 2
        assert f"device={device}: not available on this machine; expected auto" in result.err
    assert list(tmp_path.iterdir()) == []


def test_one_jobs_data_missing(call, tmp_path, make_images):
    """Errors that only the data reveals are found before the first job starts, too."""
    make_images(tmp_path / "images")
    result = call("train", "debug=smoke", "-m", "data=image_folder", "data.root=images,nowhere", "outputs=out")
    assert result.code == 2
    assert "data.root=nowhere" in result.err
    assert not (tmp_path / "out").exists()


def test_a_truncated_data_file(call, tmp_path, make_images):
    path = make_images(tmp_path / "images")
    path.write_bytes(path.read_bytes()[:60])
    result = call("train", "debug=smoke", "data=image_folder", "data.root=images", "outputs=out")
    assert result.code == 2
    assert path.name in result.err
    assert "data.root=images" in result.err
    assert len(result.err.splitlines()) <= 2
    assert not (tmp_path / "out").exists()


def test_a_truncated_set(call, tmp_path):
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        (folder / f"{name}.bin").write_bytes(bytes(3073 * 10 - 1))
    result = call("train", "debug=smoke", "data=cifar10", "data.root=.", "data.download=false", "outputs=out")
    assert result.code == 2
    assert "data_batch_1.bin" in result.err
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_data_file_that_may_not_be_read(call, tmp_path, make_images):
    make_images(tmp_path / "images").chmod(0)
    result = call("train", "debug=smoke", "data=image_folder", "data.root=images")
    assert result.code == 2
    assert "data.root=images" in result.err


@pytest.fixture
def make_images():
    """Write two classes of twelve small images, and return the path of one."""

    def make(folder: Path) -> Path:
        random = np.random.default_rng(0)
        for name in ("cat", "dog"):
            (folder / name).mkdir(parents=True)
            for number in range(12):
                pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / name / f"{number}.png")
        return folder / "cat" / "3.png"

    return make
