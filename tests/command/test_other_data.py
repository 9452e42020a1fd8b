"""A run on the user's own images, used again after the images have changed."""

import shutil

import numpy as np
import pytest
from PIL import Image

from runner.runs import Run

TRAIN = ("train", "debug=smoke", "model=lenet", "data=image_folder", "data.root=images", "prune.splits=[test]")
PRUNE = ("prune", "run", "prune.sparsities=[0.25]", "prune.splits=[test]")


@pytest.fixture(scope="module")
def made_once(tmp_path_factory):
    """Create three classes of twelve small images, and a run on them."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for name in ("cat", "dog", "owl"):
        (folder / "images" / name).mkdir(parents=True)
        for number in range(12):
            pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "images" / name / f"{number}.png")
    return folder


@pytest.fixture
def run(made_once, call, tmp_path):
    shutil.copytree(made_once, tmp_path, dirs_exist_ok=True)
    if not (made_once / "run").exists():
        assert call(*TRAIN, "folder=run").code == 0
        shutil.copytree(tmp_path / "run", made_once / "run")
    return Run(tmp_path / "run")


def a_class_fewer(images):
    shutil.rmtree(images / "owl")
    return "(without the class owl; 24 files instead of 36)"


def a_class_renamed(images):
    (images / "owl").rename(images / "bat")
    return "(without the class owl; with the class bat)"


def an_image_more(images):
    shutil.copy(images / "cat" / "0.png", images / "cat" / "99.png")
    return "(37 files instead of 36)"


def an_image_of_another_size(images):
    Image.new("RGB", (8, 8)).save(images / "cat" / "0.png")
    return "(files with other names, sizes or contents)"


@pytest.mark.parametrize("change", [a_class_fewer, a_class_renamed, an_image_more, an_image_of_another_size])
@pytest.mark.parametrize("command", ["prune", "coadapt", "ticket"])
def test_changed_images_are_named_and_nothing_is_mixed(change, command, call, run, tmp_path, tree):
    said = change(tmp_path / "images")
    before = tree(tmp_path)
    words = PRUNE if command == "prune" else (command, "run")
    result = call(*words)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"run: data.root=images is not the data that run was trained on {said}; ")
    assert len(result.err.splitlines()) == 1
    assert tree(tmp_path) == before


def test_the_same_images_elsewhere(call, run, tmp_path):
    (tmp_path / "images").rename(tmp_path / "moved")
    (tmp_path / "moved" / "notes.txt").write_text("no image")
    assert "data.root=images: no such folder" in call(*PRUNE).err
    result = call(*PRUNE, "data.root=moved")
    assert (result.code, result.err) == (0, "")


def test_runs_from_before_say_at_least_that_classes_are_missing(call, run, tmp_path):
    run.write_status(data=None)
    an_image_of_another_size(tmp_path / "images")
    assert call(*PRUNE).code == 0
    a_class_fewer(tmp_path / "images")
    result = call(*PRUNE, "prune.scores=random")
    assert result.code == 2
    assert "data.root=images is not the data that run was trained on (examples: train " in result.err
    assert "damaged" not in result.err


def test_only_ones_own_data_is_listed(finished_once, run):
    assert finished_once.status()["data"] == {}
    assert run.status()["data"]["classes"] == ["cat", "dog", "owl"]
