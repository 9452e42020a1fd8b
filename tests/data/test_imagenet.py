import gc
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from runner.config.compose import Composer
from runner.data.errors import DataError
from runner.data.imagenet import MEAN, STD, ImageNet
from runner.experiment import Experiment
from runner.running import settle
from runner.runs import Run
from runner.training import checkpoint

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]

CLASSES = ("cat", "dog", "eel")
Make = Callable[..., ImageNet]


def picture(seed: int, size: tuple[int, int] = (30, 24)) -> Image.Image:
    """Return a smooth image of random colours, in which every crop is different."""
    corners = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), dtype=np.uint8)
    return Image.fromarray(corners).resize(size, Image.Resampling.BICUBIC)


def write(root: Path, train: int = 8, val: int = 3) -> Path:
    for part, count in (("train", train), ("val", val)):
        for label, name in enumerate(CLASSES):
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                suffix = ("jpg", "png", "JPEG")[number % 3]
                picture(100 * label + number + (50 if part == "val" else 0)).save(
                    root / part / name / f"{number}.{suffix}"
                )
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("imagenet"))


@pytest.fixture
def make(root: Path) -> Make:
    return lambda **options: ImageNet(root, **{"size": 16, "workers": 0, "validation": 0.25, **options})


def equal(first: tuple[torch.Tensor, torch.Tensor], second: tuple[torch.Tensor, torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_splits_classes_and_shapes(make: Make) -> None:
    data = make()
    assert data.class_names == CLASSES
    assert data.splits == ("train", "validation", "test")
    assert data.sizes() == {"train": 18, "validation": 6, "test": 9}
    assert data.validation.labels.bincount().tolist() == [2, 2, 2]
    assert not set(data.train.names) & set(data.validation.names)
    assert data.model_arguments() == {"channels": 3, "image_size": 16, "classes": 3}
    x, y = data.train_batches(4, seed=0).batch(0)
    assert x.shape == (4, 3, 16, 16) and x.dtype == torch.float32
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert y.shape == (4,) and y.dtype == torch.int64
    assert make(validation=0).splits == ("train", "test")


def test_labels_are_those_of_the_folders_and_the_first_images_are_of_all_classes(make: Make) -> None:
    data = make()
    for files in (data.train, data.validation, data.test):
        assert [CLASSES[label] for label in files.labels] == [name.decode().split("/")[0] for name in files.names]
    assert data.train.labels[:9].unique().tolist() == [0, 1, 2]
    assert make().train.names.tolist() == data.train.names.tolist()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_depends_on_seed_and_step_alone(make: Make, workers: int) -> None:
    batches = make().train_batches(4, seed=3)
    assert batches.steps_per_epoch == 4
    forward = [batches.batch(step) for step in range(9)]
    again = make(workers=workers).train_batches(4, seed=3)
    for step in (7, 8, 0, 0, 3, 4, 5):
        assert equal(again.batch(step), forward[step])
    assert not equal(forward[0], make(workers=workers).train_batches(4, seed=4).batch(0))


@pytest.mark.parametrize("workers", [0, 2])
def test_reading_leaves_torchs_own_random_numbers_alone(make: Make, workers: int) -> None:
    data = make(workers=workers)
    before = torch.get_rng_state()
    batches = data.train_batches(4, seed=3)
    for step in (0, 1, 5):
        batches.batch(step)
    list(data.eval_batches("test"))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_epoch_shows_each_image_once_and_never_the_same_crop_again(make: Make) -> None:
    data = make(validation=0)
    batches = data.train_batches(24, seed=0)
    first, second = batches.batch(0), batches.batch(1)
    assert first[1].bincount().tolist() == second[1].bincount().tolist() == [8, 8, 8]
    assert not torch.equal(first[1], second[1])
    pictures = torch.cat([first[0], second[0]]).flatten(1)
    assert len(pictures.unique(dim=0)) == 48


def test_an_incomplete_last_batch_is_left_out_and_a_small_set_is_one_batch(make: Make) -> None:
    assert make(validation=0).train_batches(7, seed=0).steps_per_epoch == 3
    batches = make(validation=0).train_batches(100, seed=0)
    assert batches.steps_per_epoch == 1
    assert len(batches.batch(1)[1]) == 24


def test_evaluation_sees_the_center_normalised_by_imagenets_constants(tmp_path: Path) -> None:
    write(tmp_path, train=2, val=1)
    image = picture(7, size=(320, 256))  # its shorter side already has the 256 px that images are resized to
    for name in CLASSES:
        (tmp_path / "val" / name / "0.jpg").unlink()
        image.save(tmp_path / "val" / name / "0.png")
    data = ImageNet(tmp_path, validation=0, workers=0)
    ((x, y),) = data.eval_batches("test")
    center = np.asarray(image)[16:240, 48:272].astype(np.float32) / 255
    expected = (center - np.float32(MEAN)) / np.float32(STD)
    assert sorted(y.tolist()) == [0, 1, 2]
    for found in x:
        np.testing.assert_allclose(found.permute(1, 2, 0).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_is_in_order_and_the_same_every_time(make: Make, workers: int) -> None:
    data = make(workers=workers)
    whole = list(data.eval_batches("train", batch_size=5))
    assert [len(y) for _, y in whole] == [5, 5, 5, 3]
    assert torch.equal(torch.cat([y for _, y in whole]), data.train.labels)
    some = list(make().eval_batches("train", limit=7, batch_size=5))
    assert [len(y) for _, y in some] == [5, 2]
    assert equal(some[0], whole[0])
    with pytest.raises(ValueError, match="'validation' holds no images; those that do: train, test"):
        make(validation=0).eval_batches("validation")


def test_augmented_batches_are_the_first_training_images_at_random_crops_of_the_seed(make: Make) -> None:
    data = make()
    batches = list(data.augmented_batches(limit=7, seed=3, batch_size=5))
    assert [len(y) for _, y in batches] == [5, 2]
    assert torch.equal(torch.cat([y for _, y in batches]), data.train.labels[:7])
    again, other = (list(make(workers=2).augmented_batches(7, seed, 5)) for seed in (3, 4))
    assert all(map(equal, batches, again))
    centred = list(data.eval_batches("train", 7, 5))
    assert not any(torch.equal(a[0], b[0]) for pairs in (other, centred) for a, b in zip(batches, pairs, strict=True))


def test_each_image_by_its_own_mean_and_deviation(make: Make) -> None:
    x, _ = make(normalize="image").train_batches(4, seed=0).batch(0)
    assert torch.allclose(x.mean((1, 2, 3)), torch.zeros(4), atol=1e-5)
    assert torch.allclose(x.std((1, 2, 3), correction=0), torch.ones(4), atol=1e-3)


def test_fit_crops_at_the_size_that_the_model_wants(make: Make) -> None:
    data = make()
    for minimum, input_size, size in ((8, None, 16), (20, None, 20), (8, 10, 10)):
        data.fit(minimum, input_size)
        assert data.model_arguments()["image_size"] == size
        assert data.train_batches(2, seed=0).batch(0)[0].shape[-1] == size
        assert next(data.eval_batches("test"))[0].shape[-1] == size
    with pytest.raises(ValueError, match=r"^input_size=0: "):
        data.fit(8, 0)


def test_other_modes_folders_in_a_class_and_hidden_files(tmp_path: Path) -> None:
    write(tmp_path, train=2, val=1)
    cat = tmp_path / "train" / "cat"
    picture(1).convert("L").save(cat / "gray.png")
    picture(2).convert("CMYK").save(cat / "print.jpg")
    (cat / "more").mkdir()
    picture(3).convert("RGBA").save(cat / "more" / "alpha.png")
    (cat / ".hidden.png").write_text("no image")
    (cat / "notes.txt").write_text("no image")
    (tmp_path / "train" / ".cache").mkdir()
    data = ImageNet(tmp_path, size=8, workers=0, validation=0)
    assert data.class_names == CLASSES
    assert data.sizes()["train"] == 9
    assert b"cat/more/alpha.png" in data.train.names
    x, _ = data.train_batches(9, seed=0).batch(0)
    assert x.isfinite().all()


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_is_named_in_one_line(tmp_path: Path, workers: int) -> None:
    path = write(tmp_path, train=2, val=1) / "val" / "dog" / "0.jpg"
    path.write_bytes(path.read_bytes()[:100])
    data = ImageNet(tmp_path, size=8, workers=workers, validation=0)
    with pytest.raises(DataError, match=rf"^root=[^\n]*{path} can't be read as an image: [^\n]+$"):
        list(data.eval_batches("test"))
    assert len(list(data.eval_batches("train"))) == 1


def test_processes_end_when_nobody_wants_their_batches(make: Make) -> None:
    batches = make(workers=2).train_batches(4, seed=0)
    batches.batch(0)
    assert len(multiprocessing.active_children()) == 2
    batches.batch(9)  # reading restarts with two other processes
    assert len(multiprocessing.active_children()) == 2
    batches.itself = batches  # type: ignore[attr-defined]  # a reference cycle, as around a training
    del batches
    began = time.monotonic()
    gc.collect()
    assert not multiprocessing.active_children()
    assert time.monotonic() - began < 4  # they end at once, without being waited for and killed after 5 s each


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "val").rename(root / "test"), "val is not a folder; expected train"),
        (lambda root: (root / "train").rename(root / "training"), "train is not a folder; expected train"),
        (lambda root: (root / "val" / "cat").rename(root / "val" / "cow"), "cow is not one of the 3 training classes"),
        (lambda root: (root / "train" / "fly").mkdir(), "fly holds no image files"),
    ],
)
def test_folders_that_are_not_in_this_layout(tmp_path: Path, change: Callable[[Path], object], message: str) -> None:
    change(write(tmp_path / "set", train=1, val=1))
    with pytest.raises(DataError, match=rf"^root={tmp_path / 'set'}: [^\n]*{message}[^\n]*$"):
        ImageNet(tmp_path / "set")


@pytest.mark.parametrize(
    ("option", "value"),
    [("size", 0), ("size", 2.5), ("workers", -1), ("workers", True), ("validation", 1), ("normalize", "no")],
)
def test_a_bad_option_is_named(make: Make, option: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^{option}={value!r}: expected [^\n]+$"):
        make(**{option: value})


def test_the_fingerprint_tells_sets_apart_and_folders_not(tmp_path: Path) -> None:
    one, same, other = (write(tmp_path / name, train=1, val=1) for name in ("one", "same", "other"))
    with (other / "val" / "cat" / "0.jpg").open("ab") as file:
        file.write(b"more")
    prints = [ImageNet.fingerprint(root=root, size=8) for root in (one, same, other)]
    assert prints[0] == prints[1] != prints[2]


def test_a_run_goes_on_exactly_where_it_was_interrupted(root: Path, tmp_path: Path) -> None:
    chosen = ["data=imagenet", f"data.root={root}", "data.size=16", "data.validation=0.25"]
    small = ["model=resnet32_he", "dropout=weight_dropout", "debug=smoke", "schedule.batch_size=4", "device=cpu"]
    weights = {}
    for workers, pause in ((0, 0), (2, 3)):
        config = settle(Composer("train").single([*chosen, *small, "schedule.length=6it", f"data.workers={workers}"]))
        run = Run(tmp_path / f"{workers}")
        run.folder.mkdir()
        if pause:
            first = Experiment.from_config(config).training()
            for _ in range(pause):
                first.one_step()
            checkpoint.save(run.checkpoint_file, first.state_dict())
        parts = Experiment.from_config(config)
        training = parts.training()
        training.restore(run)
        assert training.step == pause
        training.fit()
        weights[workers] = parts.model.state_dict()
    assert all(torch.equal(tensor, weights[2][name]) for name, tensor in weights[0].items())
