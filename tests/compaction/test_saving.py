import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from runner.compaction.cutting import compact
from runner.compaction.saving import load_compact, save_compact
from runner.compaction.structure import Structure
from runner.config import trust
from runner.errors import UserError
from runner.models.foreign.module import Module
from runner.pruning.apply import prune


def saved(family, folder, removal="exact", **options):
    """Save a network with all that unit pruning and removal="exact" produce: scattered terms, biases, fewer heads."""
    model = family.build()
    prune(model, 0.75, "unit")
    result = compact(model, family.batch(), removal, **options)
    size = save_compact(folder, result.network, result.structure, family.class_name, family.arguments)
    return result, size


@pytest.mark.parametrize("removal", ["clean", "exact"])
def test_loaded_it_computes_the_same_bits(family, tmp_path, removal):
    result, size = saved(family, tmp_path, removal, fold=removal == "clean")
    assert size == sum(file.stat().st_size for file in tmp_path.iterdir())
    network = load_compact(tmp_path)
    assert not network.training
    batch = family.batch(3, 4)
    with torch.no_grad():
        assert torch.equal(network(*batch), result.network(*batch))


def test_a_fresh_process_needs_nothing_but_the_folder(families, tmp_path):
    family = families["preactivation"]
    result, _ = saved(family, tmp_path / "compact")
    torch.save(family.batch(2)[0], tmp_path / "x.pt")
    code = (
        "import sys, torch; from runner.compaction.saving import load_compact; "
        "network = load_compact(sys.argv[1]); x = torch.load(sys.argv[2]); "
        "assert sum(p.numel() for p in network.parameters()) == int(sys.argv[4]); "
        "torch.save(network(x).detach(), sys.argv[3])"
    )
    count = sum(parameter.numel() for parameter in result.network.parameters())
    paths = [tmp_path / "compact", tmp_path / "x.pt", tmp_path / "y.pt"]
    subprocess.run([sys.executable, "-c", code, *map(str, paths), str(count)], check=True, cwd=tmp_path.parent)
    with torch.no_grad():
        assert torch.equal(torch.load(tmp_path / "y.pt"), result.network(*family.batch(2)))


def test_only_our_own_classes_and_plain_arguments_are_saved(families, tmp_path):
    result, _ = saved(families["mlp"], tmp_path / "good")
    with pytest.raises(ValueError, match=r"expected a class of runner\.models"):
        save_compact(tmp_path / "bad", result.network, result.structure, "torch.nn.Linear", {})
    with pytest.raises(ValueError, match="numbers, texts"):
        save_compact(tmp_path / "bad", result.network, result.structure, families["mlp"].class_name, {"a": {1, 2}})
    assert not (tmp_path / "bad").exists()


def edit(folder, change):
    architecture = json.loads((folder / "architecture.json").read_text())
    change(architecture)
    (folder / "architecture.json").write_text(json.dumps(architecture))


def put(*path, value):
    def change(architecture):
        part = architecture
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = value

    return change


HOSTILE = {
    "another package": (put("class", value="subprocess.Popen"), "expected a network of runner.models"),
    "an import of a model": (put("class", value="runner.models.vgg.nn.Linear"), "expected a network"),
    "a function": (put("class", value="runner.models.vgg.conv"), "expected a network"),
    "no such module": (put("class", value="runner.models.nothing.VGG"), "expected a network"),
    "no text": (put("class", value=["runner.models.vgg.VGG"]), "expected a network"),
    "an unknown key": (put("code", value="print()"), "unknown key 'code'"),
    "an unknown key inside": (put("structure", "hooks", value={}), "unknown key 'hooks'"),
    "a missing key": (lambda a: a.pop("arguments"), "missing key 'arguments'"),
    "another format": (put("format", value=7), "format 7"),
    "an unknown argument": (put("arguments", "hook", value=1), "can't be built with"),
    "a wrong argument": (put("arguments", "blocks", value="many"), "can't be built with"),
    "a network without end": (put("arguments", "blocks", value=10**9), "modules for the tensors that are stored"),
    "a huge network": (put("arguments", "width", value=1e9), "architecture.json"),
    "more filters than there are": (
        put("structure", "layers", "blocks.0.conv1", "outputs", value=10**6),
        "can't have",
    ),
    "fewer filters": (put("structure", "layers", "blocks.0.conv1", "outputs", value=1), "expected float32"),
    "a negative size": (put("structure", "channels", "norm", value=-4), "expected a size"),
    "a layer that isn't there": (
        put("structure", "layers", "blocks.9.conv1", value={"inputs": 1, "outputs": 1, "bias": False}),
        "no module blocks.9.conv1",
    ),
    "a text for a size": (put("structure", "heads", "blocks", value="4"), "expected a size"),
    "heads of what has none": (put("structure", "heads", "blocks", value=1), "has no 1 heads"),
    "an index outside": (put("structure", "scattered", "blocks.0.norm2", "index", value=[99, 100]), "rising indices"),
    "a folded convolution": (put("structure", "folded", value=["stem"]), "stem is not a BatchNorm"),
    "folded numbers": (put("structure", "folded", value=[1]), "expected names"),
    "no object": (put("structure", value=[1]), "expected an object"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_foreign_architecture_is_one_line(families, tmp_path, case):
    saved(families["resnet"], tmp_path)
    change, words = HOSTILE[case]
    edit(tmp_path, change)
    with pytest.raises(UserError) as error:
        load_compact(tmp_path)
    assert words in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("file", ["architecture.json", "model.safetensors"])
@pytest.mark.parametrize("content", [None, b"", b"\x00\xff", b"[" * 100_000, b"[]", "truncated"])
def test_a_damaged_file_is_one_line(families, tmp_path, file, content):
    saved(families["mlp"], tmp_path)
    path = tmp_path / file
    if content is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-40] if content == "truncated" else content)
    with pytest.raises(UserError) as error:
        load_compact(tmp_path)
    assert file in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda t: t.pop("logits.bias"), "logits.bias is missing"),
        (lambda t: t.update(more=torch.zeros(1)), "more is not part of the network"),
        (lambda t: t.update({"logits.bias": torch.zeros(11)}), r"logits.bias is float32 (11,), expected float32 (10,)"),
        (lambda t: t.update({"logits.bias": torch.zeros(10).int()}), "logits.bias is int32"),
    ],
)
def test_tensors_of_another_network_are_named(families, tmp_path, change, words):
    saved(families["mlp"], tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(UserError) as error:
        load_compact(tmp_path)
    assert words in str(error.value)


def test_a_shared_weight_is_stored_once_and_shared_again(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(trust, "_named", {"tied_net:Tied"})
    (tmp_path / "tied_net.py").write_text(
        "from torch import nn\n\n"
        "class Tied(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)\n"
        "        self.b.weight = self.a.weight\n\n"
        "    def forward(self, x):\n"
        "        return self.b(self.a(x))\n"
    )
    network = Module("tied_net:Tied").build()
    arguments = {"architecture": "tied_net:Tied"}
    save_compact(tmp_path / "compact", network, Structure(), f"{Module.__module__}.Module", arguments)
    loaded = load_compact(tmp_path / "compact")
    assert loaded.b.weight is loaded.a.weight
    assert torch.equal(loaded(torch.ones(1, 4)), network(torch.ones(1, 4)))
