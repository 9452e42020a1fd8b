import struct
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest

from runner.data import on_disk
from runner.data.cifar import CIFAR10
from runner.data.errors import DataError
from runner.data.mnist import MNIST


def offer(monkeypatch: pytest.MonkeyPatch, **datasets: object) -> None:
    """Replace torchvision's data sets by these."""
    monkeypatch.setattr(on_disk, "import_torchvision", lambda: SimpleNamespace(datasets=SimpleNamespace(**datasets)))


def test_what_is_on_disk_is_not_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_idx: object) -> None:
    write_idx(tmp_path)  # type: ignore[operator]
    offer(monkeypatch)
    assert MNIST(root=tmp_path, download=True).sizes()["test"] == 20


def test_a_download_is_read_where_torchvision_leaves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_idx: object
) -> None:
    asked = []

    def download(**arguments: object) -> None:
        asked.append(arguments)
        write_idx(tmp_path / "data" / "MNIST" / "raw")  # type: ignore[operator]

    offer(monkeypatch, MNIST=download)
    assert MNIST(root=tmp_path / "data", download=True).sizes()["test"] == 20
    assert asked == [{"root": str(tmp_path / "data"), "train": True, "download": True}]


def test_a_download_that_was_broken_off_is_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_idx: object
) -> None:
    raw = tmp_path / "MNIST" / "raw"
    write_idx(raw)  # type: ignore[operator]
    (raw / "t10k-labels-idx1-ubyte").unlink()

    def download(**_: object) -> None:
        labels = np.zeros(20, dtype=np.uint8)
        (raw / "t10k-labels-idx1-ubyte").write_bytes(struct.pack(">BBBBI", 0, 0, 8, 1, 20) + labels.tobytes())

    offer(monkeypatch, MNIST=download)
    assert MNIST(root=tmp_path, download=True).test.labels.tolist() == [0] * 20


@pytest.mark.parametrize(
    "error", [URLError("no route\nto host"), RuntimeError("File not found or corrupted."), EOFError()]
)
def test_a_failing_download_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def download(**_: object) -> None:
        raise error

    offer(monkeypatch, CIFAR10=download)
    with pytest.raises(DataError, match=r"^root=\S+: no CIFAR10 here, and its download failed: \S[^\n]*$"):
        CIFAR10(root=tmp_path, download=True)


def test_a_root_that_can_not_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    offer(monkeypatch)
    with pytest.raises(DataError, match=r"^root=\S+: no CIFAR10 here, and its download failed: "):
        CIFAR10(root=tmp_path / "file" / "data", download=True)


def test_a_download_that_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, CIFAR10=lambda **_: None)
    with pytest.raises(DataError, match=r"^root=\S+: the download of CIFAR10 is incomplete$"):
        CIFAR10(root=tmp_path, download=True)
