import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from runner.data.errors import DataError
from runner.data.images import ImageData
from runner.data.mnist import MNIST, FashionMNIST

Write = Callable[..., dict[str, np.ndarray]]
IMAGES = "train-images-idx3-ubyte"


@pytest.fixture(autouse=True)
def only_below_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FashionMNIST, "elsewhere", ())


def check(data: ImageData, arrays: dict[str, np.ndarray]) -> None:
    assert np.array_equal(data.train.images[:, 0], arrays["train-images"])
    assert np.array_equal(data.train.labels, arrays["train-labels"])
    assert np.array_equal(data.test.images[:, 0], arrays["t10k-images"])
    assert np.array_equal(data.test.labels, arrays["t10k-labels"])
    assert data.model_arguments() == {"channels": 1, "image_size": 28, "classes": 10}


@pytest.mark.parametrize("dataset", [MNIST, FashionMNIST])
@pytest.mark.parametrize("folder", ["{name}/raw", "{first}", "."])
@pytest.mark.parametrize("gz", [False, True])
@pytest.mark.parametrize("mark", ["-", "."])
def test_every_layout(dataset: type[MNIST], folder: str, gz: bool, mark: str, tmp_path: Path, write_idx: Write) -> None:
    where = tmp_path / folder.format(name=dataset.__name__, first=dataset.folders[0])
    arrays = write_idx(where, gz=gz, mark=mark)
    check(dataset(root=str(tmp_path), download=False, validation=0), arrays)


def test_a_complete_layout_wins_over_one_begun(tmp_path: Path, write_idx: Write) -> None:
    write_idx(tmp_path / "MNIST" / "raw")
    (tmp_path / "MNIST" / "raw" / IMAGES).unlink()
    arrays = write_idx(tmp_path / "mnist", gz=True)
    check(MNIST(root=tmp_path, download=False, validation=0), arrays)


def test_the_place_where_debian_puts_it(tmp_path: Path, write_idx: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = write_idx(tmp_path / "usr", gz=True)
    monkeypatch.setattr(FashionMNIST, "elsewhere", (tmp_path / "usr",))
    check(FashionMNIST(root=tmp_path / "data", download=False, validation=0), arrays)
    with pytest.raises(DataError):
        MNIST(root=tmp_path / "data", download=False)


def test_validation_crop_and_flip_as_asked(tmp_path: Path, write_idx: Write) -> None:
    write_idx(tmp_path)
    fashion = FashionMNIST(root=tmp_path, download=False)
    assert fashion.sizes() == {"train": 27, "validation": 3, "test": 20}
    assert (fashion.crop, fashion.flip) == (2, True)
    assert (MNIST(root=tmp_path).crop, MNIST(root=tmp_path).flip) == (2, False)


def test_the_other_set_under_the_same_file_names_is_refused(tmp_path: Path, write_idx: Write) -> None:
    write_idx(tmp_path)
    labels = np.array([*FashionMNIST.first_test_labels, 0, 0, 0, 0], dtype=np.uint8)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(struct.pack(">BBBBI", 0, 0, 8, 1, 20) + labels.tobytes())
    assert FashionMNIST(root=tmp_path, download=False).sizes()["test"] == 20
    with pytest.raises(DataError, match=r"^root=.*: holds FashionMNIST, not MNIST$"):
        MNIST(root=tmp_path, download=False)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"^root=\S+: no MNIST here .*MNIST/raw/train-images.*; download=true fetches it"
    ) as caught:
        MNIST(root=tmp_path / "nowhere", download=False)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("download", [False, True])
def test_a_missing_file_among_plain_ones_is_named(tmp_path: Path, write_idx: Write, download: bool) -> None:
    write_idx(tmp_path, gz=True)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"^root=\S+: \S+t10k-labels-idx1-ubyte is missing, but 3 other files"):
        MNIST(root=tmp_path, download=download)


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    changed = {
        "cut": content[:-1],
        "longer": content + b"\0",
        "magic": b"\0\0\x09\x03" + content[4:],
        "header": content[:9],
        "empty": b"",
        "28x27": struct.pack(">BBBB3I", 0, 0, 8, 3, 30, 28, 27) + content[16 : 16 + 30 * 28 * 27],
        "fewer": struct.pack(">BBBB3I", 0, 0, 8, 3, 29, 28, 28) + content[16 : 16 + 29 * 28 * 28],
    }
    path.write_bytes(changed[how])


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("cut", f"{IMAGES} holds 23535 bytes; expected 23536 from its header"),
        ("longer", f"{IMAGES} holds 23537 bytes; expected 23536 from its header"),
        ("magic", f"{IMAGES} begins with bytes 00000903; expected 00000803"),
        ("header", f"{IMAGES} ends inside its header"),
        ("empty", f"{IMAGES} begins with bytes"),
        ("28x27", f"{IMAGES} holds an array of .*; expected images of 28x28"),
        ("fewer", f"train-labels-idx1-ubyte holds 30 labels for the 29 images of {IMAGES}"),
    ],
)
def test_a_damaged_file_is_named(how: str, message: str, tmp_path: Path, write_idx: Write) -> None:
    write_idx(tmp_path)
    damage(tmp_path / IMAGES, how)
    with pytest.raises(DataError, match=rf"^root=[^\n]*{message}[^\n]*$"):
        MNIST(root=tmp_path, download=False)


@pytest.mark.parametrize("content", [b"no gzip at all", None])
def test_a_damaged_gzip_file_is_named(content: bytes | None, tmp_path: Path, write_idx: Write) -> None:
    write_idx(tmp_path, gz=True)
    path = tmp_path / f"{IMAGES}.gz"
    path.write_bytes(content or path.read_bytes()[:-100])
    with pytest.raises(DataError, match=rf"^root=[^\n]*{IMAGES}\.gz is a damaged or truncated gzip file"):
        MNIST(root=tmp_path, download=False)


def test_a_label_out_of_range(tmp_path: Path, write_idx: Write) -> None:
    write_idx(tmp_path, gz=True)
    path = tmp_path / "train-labels-idx1-ubyte.gz"
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content[:-1] + b"\x0a"))
    with pytest.raises(DataError, match="holds the label 10; expected 0 to 9"):
        MNIST(root=tmp_path, download=False)
