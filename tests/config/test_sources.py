"""The source of a user's own classes, as far as it is part of a run's identity."""

import sys

import pytest

from runner.config.build import PACKAGES
from runner.config.sources import own_sources


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """Return the hash of the source of the class that dropout._target_ names, in a folder of own modules."""
    monkeypatch.syspath_prepend(tmp_path)

    def of(target):
        config = {group: {"_target_": f"runner.{group}.X"} for group in PACKAGES}
        config["dropout"]["_target_"] = target
        return own_sources(config)

    return of


def test_the_projects_and_installed_classes_have_none(sources):
    for target in ("runner.dropout.targeted.Targeted", "torch.nn.Linear", "json.JSONDecoder", "sys.X", "nowhere.X"):
        assert sources(target) == {}


@pytest.mark.parametrize(
    ("importing", "imported"),
    [
        ("import own_b", "own_b.py"),
        ("from own_b import X", "own_b.py"),
        ("def later():\n    import own_pack.part", "own_pack/part.py"),
        ("from own_pack import part", "own_pack/part.py"),
        ("import own_pack.part", "own_pack/__init__.py"),
        ("import own_b", "own_pack/part.py"),  # imported by own_b
    ],
)
def test_what_a_module_imports_belongs_to_it(importing, imported, sources, tmp_path):
    (tmp_path / "own_pack").mkdir()
    for name in ("own_c.py", "own_pack/__init__.py", "own_pack/part.py"):
        (tmp_path / name).write_text("")
    (tmp_path / "own_b.py").write_text("from own_pack.part import Y\n")
    (tmp_path / "own_a.py").write_text(f"import torch\nimport os.path\nfrom runner import runs\n{importing}\n")
    first = sources("own_a.X")
    assert list(first) == ["dropout._target_"]
    (tmp_path / "own_c.py").write_text("z = 1")
    assert sources("own_a.X") == first
    (tmp_path / imported).write_text("z = 1\n")
    assert sources("own_a.X") != first


def test_a_package_of_ones_own(sources, tmp_path):
    (tmp_path / "own_pack2" / "deep").mkdir(parents=True)
    for name, text in (("__init__", ""), ("a", "from . import b\nfrom .deep.c import X"), ("b", ""), ("deep/c", "")):
        (tmp_path / "own_pack2" / f"{name}.py").write_text(text)
    hashes = [sources("own_pack2.a.X")]
    for name in ("a", "b", "deep/c", "__init__"):
        path = tmp_path / "own_pack2" / f"{name}.py"
        path.write_text(path.read_text() + "\n")
        hashes.append(sources("own_pack2.a.X"))
    assert len({str(hash_) for hash_ in hashes}) == 5
    assert "own_pack2.a" not in sys.modules, "found without being run"


def test_where_the_folder_lies_makes_no_difference(sources, tmp_path, monkeypatch):
    hashes = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "own_d.py").write_text("import own_d")
        with monkeypatch.context() as patch:
            patch.syspath_prepend(tmp_path / name)
            hashes.append(sources("own_d.X"))
    assert hashes[0] and hashes[0] == hashes[1]
