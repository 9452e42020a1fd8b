"""Other libraries' networks: built by these libraries, with weights from files, and refused with a one-line message."""

import json
import pickle
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from runner.config import trust
from runner.data.torchvision_import import import_torchvision
from runner.errors import ConfigError, ForeignRun
from runner.models.foreign.module import Module
from runner.models.foreign.timm import Timm
from runner.models.foreign.torchvision import Torchvision
from runner.models.foreign.transformers import Transformers

NET = """
import torch.nn.functional as F
from torch import nn


class {name}(nn.Module):
    def __init__(self, channels, classes, width=8):
        super().__init__()
        self.logits = nn.Linear(width, classes)  # registered first, computed last
        self.stem = nn.Conv2d(channels, width, 3, padding=1)
        self.inner = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x):
        return self.logits(F.relu(self.inner(F.relu(self.stem(x)))).mean((2, 3)))


def other():
    return "no network"
"""
TINY_VIT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}


@pytest.fixture(autouse=True)
def nothing_trusted(monkeypatch):
    monkeypatch.setattr(trust, "_named", set())
    monkeypatch.setattr(trust, "_folders", set())
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture
def net(tmp_path, monkeypatch):
    """Write a user's own file in the current folder, and return the name of its class."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "somebodys.py").write_text(NET.format(name="Net"))
    monkeypatch.delitem(sys.modules, "somebodys", raising=False)
    trust.trust("somebodys:Net")
    trust.trust("somebodys:other")
    yield "somebodys:Net"
    sys.modules.pop("somebodys", None)


def refused(builder):
    with pytest.raises(ConfigError) as caught:
        builder.build()
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_a_torchvision_network_of_other_channels_and_classes():
    network = Torchvision("squeezenet1_1", channels=1, image_size=32, classes=7).build()
    assert type(network).__module__.startswith("torchvision.models")
    assert network.eval()(torch.zeros(2, 1, 32, 32)).shape == (2, 7)


def test_an_image_size_goes_to_builders_that_take_it():
    with torch.device("meta"):
        network = Torchvision("vit_b_16", channels=3, image_size=32, classes=3).build()
    assert network.image_size == 32


def test_names_that_the_library_lacks_get_near_ones():
    assert "did you mean resnet" in refused(Torchvision("resnet81"))
    assert "did you mean IMAGENET1K_V1" in refused(Torchvision("squeezenet1_1", "IMAGENET1K_V7"))
    assert "model.weights=nothing.pth: no such file" in refused(Torchvision("squeezenet1_1", "nothing.pth"))
    assert "torchvision can't build it with model.arguments={'nothing': 1}: " in refused(
        Torchvision("squeezenet1_1", arguments={"nothing": 1})
    )


def test_weights_of_a_file_and_of_other_classes(net, tmp_path):
    whole = Module(net, channels=3, classes=10).build()
    torch.save({"state_dict": whole.state_dict()}, tmp_path / "w.pth")
    save_file(whole.state_dict(), tmp_path / "w.safetensors")
    for name in ("w.pth", "w.safetensors"):
        loaded = Module(net, name, channels=3, classes=10).build()
        assert all(torch.equal(t, whole.state_dict()[k]) for k, t in loaded.state_dict().items())


def test_a_head_of_other_classes_stays_random_and_a_stem_sums_its_channels(tmp_path):
    whole = Torchvision("squeezenet1_1", channels=3, classes=10).build()
    head = Torchvision("resnet18", channels=3, classes=10).build()
    torch.save(head.state_dict(), tmp_path / "r.pth")
    grey = Torchvision("resnet18", str(tmp_path / "r.pth"), channels=1, classes=4).build()
    torch.testing.assert_close(grey.conv1.weight, head.conv1.weight.sum(1, keepdim=True))
    assert torch.equal(grey.layer1[0].conv1.weight, head.layer1[0].conv1.weight)
    assert grey.fc.out_features == 4
    torch.save(whole.state_dict(), tmp_path / "s.pth")
    said = refused(Torchvision("resnet18", str(tmp_path / "s.pth"), classes=10))
    assert (
        "weights of another model: the file lacks conv1.weight, bn1.weight, bn1.bias, …; also has features.0.weight"
        in said
    )


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


def test_a_pickle_with_more_than_tensors_is_refused(net, tmp_path, capsys):
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"a": Evil()}))
    torch.save({"epoch": 3}, tmp_path / "numbers.pth")
    torch.save(nn.Linear(2, 2), tmp_path / "whole.pth")
    for name in ("evil.pth", "numbers.pth", "whole.pth"):
        assert f"model.weights={name}: not a " in refused(Module(net, name))
    assert "executed" not in capsys.readouterr().out


def test_a_class_that_the_user_has_not_named_is_not_imported(net, tmp_path, monkeypatch):
    (tmp_path / "strangers.py").write_text("raise SystemExit('executed')\n")
    with pytest.raises(ForeignRun, match=r"strangers:Net: a user-defined class.*--config-dir"):
        Module("strangers:Net").build()
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "strangers.py").write_text(NET.format(name="Net"))
    trust.trust_folder(tmp_path / "own")
    monkeypatch.syspath_prepend(tmp_path / "own")
    (tmp_path / "strangers.py").unlink()
    assert Module("strangers:Net", channels=1, classes=2).build().stem.in_channels == 1
    sys.modules.pop("strangers")


def test_classes_that_are_none(net):
    trust.trust("somebodys:Nett")
    trust.trust("nowhere_at_all:Net")
    assert "did you mean Net?" in refused(Module("somebodys:Nett"))
    assert "No module named 'nowhere_at_all'" in refused(Module("nowhere_at_all:Net"))
    assert "expected package.module:Class" in refused(Module("somebodys.Net"))
    assert "expected an nn.Module" in refused(Module("somebodys:other"))
    assert "missing a required argument" not in refused(Module(net, arguments={"depth": 2}))


@pytest.mark.parametrize(("builder", "package"), [(Timm, "timm"), (Transformers, "transformers")])
def test_a_library_that_is_missing_is_one_line_with_its_extra(builder, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    assert f"model={package} needs {package}, which is not installed: pip install '.[{package}]'" in refused(
        builder("resnet18")
    )


def test_timm():
    import_torchvision()
    pytest.importorskip("timm")
    network = Timm("vit_tiny_patch16_224", channels=1, image_size=32, classes=5, arguments={"depth": 1}).build()
    assert network.eval()(torch.zeros(1, 1, 32, 32)).shape == (1, 5)
    assert "did you mean" in refused(Timm("vit_tiny_patch16_225"))
    assert "did you mean a1_in1k" in refused(Timm("resnet18", "a1_in2k"))
    assert "checkpoint_path is not supported" in refused(Timm("resnet18", arguments={"checkpoint_path": "evil.pth"}))
    assert "unknown to timm" in refused(Timm("hf-hub:somebody/resnet18"))


def test_transformers(tmp_path):
    import_torchvision()
    pytest.importorskip("transformers")
    builder = Transformers("vit", channels=1, image_size=8, classes=3, arguments={**TINY_VIT, "patch_size": 4})
    network = builder.build()
    assert network.eval()(torch.zeros(1, 1, 8, 8)).shape == (1, 3)
    assert "did you mean hidden_size" in refused(Transformers("vit", arguments={"hiden_size": 16}))
    assert "did you mean" in refused(Transformers("bertt"))
    for name in ("attn_implementation", "_attn_implementation", "auto_map"):
        assert f"{name} can't be set" in refused(Transformers("bert", arguments={name: "somebody/kernel"}))
    # A folder written by transformers is read once; a stored run does not need it.
    network.network.save_pretrained(tmp_path / "folder")
    file = tmp_path / "folder" / "config.json"
    old = {
        "_name_or_path": "somewhere",
        "gradient_checkpointing": False,
        "id2label": {"0": "cat", "1": "dog", "2": "cow"},
    }
    file.write_text(json.dumps({**json.loads(file.read_text()), **old}))
    part = {"architecture": str(tmp_path / "folder"), "weights": None, "arguments": None}
    settled = Transformers.settle(part)
    assert settled["architecture"] == "vit"
    again = Transformers(**settled, channels=1, image_size=8, classes=3).build()
    assert all(torch.equal(t, network.state_dict()[k]) for k, t in again.state_dict().items())
    other = Transformers(**settled, channels=1, image_size=8, classes=5).build().state_dict()
    inner = [key for key in other if "classifier" not in key]
    assert all(torch.equal(other[key], network.state_dict()[key]) for key in inner)
    deeper = {**settled, "arguments": {**settled["arguments"], "num_hidden_layers": 2}}
    said = refused(Transformers(**deeper, channels=1, image_size=8, classes=3))
    assert "of another model: the file lacks vit.layers.1." in said
    # GPT-2's layers are nn.Linear here, but its files still load.
    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 40, "n_positions": 16}
    gpt = Transformers("gpt2", classes=3, arguments=sizes)
    model = gpt.build()
    assert isinstance(model.network.transformer.h[0].mlp.c_fc, nn.Linear)
    assert model.eval()(*gpt.example(model)).shape == (2, 3)
    state = {k: t.T.contiguous() if "c_" in k and t.dim() == 2 else t for k, t in model.network.state_dict().items()}
    save_file(state, tmp_path / "gpt.safetensors")
    loaded = Transformers("gpt2", str(tmp_path / "gpt.safetensors"), sizes, classes=3).build()
    assert all(torch.equal(t, model.state_dict()[k]) for k, t in loaded.state_dict().items())
    assert load_file(tmp_path / "gpt.safetensors").keys() == model.network.state_dict().keys()
