import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest

from runner.data.cifar import CIFAR10, CIFAR100
from runner.data.errors import DataError
from runner.data.torchvision_import import import_torchvision

TRAIN, TEST = 40, 20  # images per file
SETS = [CIFAR10, CIFAR100]


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    for dataset in SETS:
        monkeypatch.setattr(dataset, "train_records", TRAIN)
        monkeypatch.setattr(dataset, "test_records", TEST)


def content(dataset: type[CIFAR10]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return (images, labels) by file name."""
    random = np.random.default_rng(0)
    counts = {**dict.fromkeys(dataset.train_files, TRAIN), dataset.test_file: TEST}
    return {
        name: (
            random.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8),
            random.integers(0, len(dataset.names), count),
        )
        for name, count in counts.items()
    }


def write_binary(dataset: type[CIFAR10], folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    folder.mkdir(parents=True, exist_ok=True)
    files = content(dataset)
    for name, (images, labels) in files.items():
        coarse = np.full((len(labels), dataset.label_bytes - 1), 99, dtype=np.uint8)
        records = np.hstack([coarse, labels[:, None].astype(np.uint8), images.reshape(len(labels), -1)])
        (folder / f"{name}.bin").write_bytes(records.tobytes())
    return files


def write_python(
    dataset: type[CIFAR10], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Write files in the format of the official Python version, and make torchvision expect their MD5 sums."""
    folder.mkdir(parents=True, exist_ok=True)
    files, sums = content(dataset), {}
    key, meta_key = ("fine_labels", "fine_label_names") if dataset is CIFAR100 else ("labels", "label_names")
    entries = {
        name: {"data": images.reshape(len(labels), -1), key: labels.tolist()}
        for name, (images, labels) in files.items()
    }
    for name, entry in {**entries, dataset.meta_file: {meta_key: list(dataset.names)}}.items():
        written = pickle.dumps(entry)
        (folder / name).write_bytes(written)
        sums[name] = hashlib.md5(written).hexdigest()
    loader = getattr(import_torchvision().datasets, dataset.__name__)
    monkeypatch.setattr(loader, "train_list", [[name, sums[name]] for name in dataset.train_files])
    monkeypatch.setattr(loader, "test_list", [[dataset.test_file, sums[dataset.test_file]]])
    meta = {"filename": dataset.meta_file, "key": meta_key, "md5": sums[dataset.meta_file]}
    monkeypatch.setattr(loader, "meta", meta)
    return files


def check(data: CIFAR10, files: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    train = [files[name] for name in data.train_files]
    assert np.array_equal(data.train.images, np.concatenate([images for images, _ in train]))
    assert np.array_equal(data.train.labels, np.concatenate([labels for _, labels in train]))
    assert np.array_equal(data.test.images, files[data.test_file][0])
    assert np.array_equal(data.test.labels, files[data.test_file][1])
    assert data.model_arguments() == {"channels": 3, "image_size": 32, "classes": len(data.names)}


@pytest.mark.parametrize("dataset", SETS)
@pytest.mark.parametrize("inside", [False, True])
def test_binary_version(dataset: type[CIFAR10], inside: bool, tmp_path: Path) -> None:
    folder = tmp_path / dataset.binary_folder
    files = write_binary(dataset, folder)
    check(dataset(root=str(folder if inside else tmp_path), download=False, validation=0), files)


@pytest.mark.parametrize("dataset", SETS)
@pytest.mark.parametrize("inside", [False, True])
def test_python_version(dataset: type[CIFAR10], inside: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / dataset.python_folder
    files = write_python(dataset, folder, monkeypatch)
    check(dataset(root=str(folder if inside else tmp_path), download=False, validation=0), files)


class Bomb:
    """A pickle that creates a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


def test_a_python_version_that_is_not_the_official_one_is_never_unpickled(tmp_path: Path) -> None:
    folder = tmp_path / CIFAR10.python_folder
    folder.mkdir()
    for name in (*CIFAR10.train_files, CIFAR10.test_file, CIFAR10.meta_file):
        (folder / name).write_bytes(pickle.dumps(Bomb(tmp_path / "opened")))
    with pytest.raises(DataError, match=rf"^root=[^\n]*{folder} does not hold the official files[^\n]*$"):
        CIFAR10(root=tmp_path, download=False)
    assert not (tmp_path / "opened").exists()


@pytest.mark.parametrize("dataset", SETS)
def test_a_truncated_file_is_named(dataset: type[CIFAR10], tmp_path: Path) -> None:
    folder = tmp_path / dataset.binary_folder
    write_binary(dataset, folder)
    path = folder / f"{dataset.train_files[-1]}.bin"
    path.write_bytes(path.read_bytes()[:-1])
    expected = TRAIN * (3072 + dataset.label_bytes)
    message = rf"^root=[^\n]*{path} holds {expected - 1} bytes; expected {expected}, {TRAIN} images$"
    with pytest.raises(DataError, match=message):
        dataset(root=tmp_path, download=False)


def test_a_file_cut_between_two_images_is_refused_too(tmp_path: Path) -> None:
    write_binary(CIFAR10, tmp_path)
    path = tmp_path / "test_batch.bin"
    path.write_bytes(path.read_bytes()[:-3073])
    with pytest.raises(DataError, match=r"test_batch\.bin holds"):
        CIFAR10(root=tmp_path, download=False)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    write_binary(CIFAR10, tmp_path / CIFAR10.binary_folder)
    (tmp_path / CIFAR10.binary_folder / "data_batch_3.bin").unlink()
    with pytest.raises(
        DataError, match=r"^root=\S+: \S+data_batch_3\.bin is missing, but 5 other files of the data set exist$"
    ):
        CIFAR10(root=tmp_path, download=True)


def test_a_label_out_of_range(tmp_path: Path) -> None:
    write_binary(CIFAR10, tmp_path)
    path = tmp_path / "data_batch_1.bin"
    path.write_bytes(b"\x0a" + path.read_bytes()[1:])
    with pytest.raises(DataError, match=r"data_batch_1\.bin holds the label 10; expected 0 to 9"):
        CIFAR10(root=tmp_path, download=False)


def test_defaults_and_official_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_binary(CIFAR10, tmp_path)
    data = CIFAR10(root=tmp_path)
    assert (data.crop, data.flip, data.normalize) == (4, True, "channel")
    assert data.sizes() == {"train": 180, "validation": 20, "test": 20}
    monkeypatch.undo()
    for dataset in SETS:
        assert len(dataset.train_files) * dataset.train_records == 50_000
        assert dataset.test_records == 10_000
        assert len(set(dataset.names)) == len(dataset.names)
    assert (len(CIFAR10.names), len(CIFAR100.names)) == (10, 100)
    assert list(CIFAR100.names) == sorted(CIFAR100.names)
