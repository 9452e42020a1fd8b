import subprocess
import sys
from types import ModuleType

import pytest

from runner.data import torchvision_import
from runner.data.torchvision_import import MISSING_OPERATORS, import_torchvision


class Importer:
    """An importer that raises the given errors in order, each time leaving a half-imported module, then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls: list[str] = []

    def __call__(self, name: str) -> ModuleType:
        assert "torchvision.half" not in sys.modules
        self.calls.append(name)
        if self.errors:
            sys.modules["torchvision.half"] = ModuleType("torchvision.half")
            raise self.errors.pop(0)
        return ModuleType(name)


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace the declaration, which a process can make only once, and restore the modules of this process."""
    log: list[str] = []
    kept = {name: module for name, module in sys.modules.items() if name.split(".")[0] != "torchvision"}
    monkeypatch.setattr(sys, "modules", kept)
    monkeypatch.setattr(torchvision_import, "declare_operators", lambda: log.append("declared"))
    return log


def test_a_healthy_torchvision_is_imported_and_nothing_declared(declared: list[str]) -> None:
    importer = Importer()
    assert import_torchvision(importer).__name__ == "torchvision"
    assert importer.calls == ["torchvision"] and declared == []


def test_missing_operators_are_declared_once_and_the_half_imported_dropped(declared: list[str]) -> None:
    importer = Importer(RuntimeError(MISSING_OPERATORS))
    assert import_torchvision(importer).__name__ == "torchvision"
    assert importer.calls == ["torchvision", "torchvision"] and declared == ["declared"]


@pytest.mark.parametrize("error", [RuntimeError("operator other::nms does not exist"), ImportError(MISSING_OPERATORS)])
def test_any_other_error_is_passed_on(declared: list[str], error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)):
        import_torchvision(Importer(error))
    assert declared == []


def test_a_second_failure_is_passed_on(declared: list[str]) -> None:
    importer = Importer(RuntimeError(MISSING_OPERATORS), ImportError("still broken"))
    with pytest.raises(ImportError, match="still broken"):
        import_torchvision(importer)
    assert declared == ["declared"]


def test_declaring_in_a_fresh_process() -> None:
    """The real declaration, where torchvision has not been imported: afterwards both operators exist."""
    code = (
        "import torch\n"
        "from runner.data.torchvision_import import declare_operators\n"
        "assert not hasattr(torch.ops.torchvision, 'nms')\n"
        "declare_operators()\n"
        "import gc; gc.collect()\n"
        "print(torch.ops.torchvision.nms.default._schema, torch.ops.torchvision.qnms.default._schema)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "torchvision::nms(Tensor dets, Tensor scores, float iou_threshold)" in done.stdout
    assert "torchvision::qnms(Tensor dets" in done.stdout


def test_the_real_one_works_here_healthy_or_not() -> None:
    torchvision = import_torchvision()
    assert import_torchvision() is torchvision
    assert torchvision.datasets.CIFAR10.base_folder == "cifar-10-batches-py"
    assert torchvision.transforms.Resize(4).size == 4
