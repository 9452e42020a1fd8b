import json
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save
from safetensors.torch import save as save_torch

from runner.compaction.packing import _decode_gaps, _encode_gaps, load_packed, pack, save_packed
from runner.compaction.saving import stored_tensors
from runner.errors import UserError
from runner.models.resnet import ResNet
from runner.pruning.apply import prune


def bits(tensor):
    return tensor.numpy().tobytes()


@pytest.mark.parametrize("sparsity", [0, 0.5, 0.9, 0.99, 1])
def test_the_same_dense_tensors_come_back_bit_for_bit(families, tmp_path, sparsity):
    model = families["resnet"].build()
    prune(model, sparsity, "weight")
    state = model.state_dict()
    size = save_packed(tmp_path / "packed.safetensors", state, architecture={"class": "x"})
    assert size == (tmp_path / "packed.safetensors").stat().st_size
    packed = load_packed(tmp_path / "packed.safetensors")
    assert packed.architecture == {"class": "x"}
    assert list(packed.tensors) == list(state)
    for name, tensor in packed.tensors.items():
        assert tensor.dtype == state[name].dtype
        assert tensor.shape == state[name].shape
        assert bits(tensor) == bits(state[name])


def test_signs_of_zeros_and_odd_values_are_kept(tmp_path):
    tensor = torch.tensor([[0.0, -0.0, float("nan"), float("-inf"), 1e-45, 0, 0, 0, 0, 0]])
    save_packed(tmp_path / "p", {"w": tensor, "empty": torch.zeros(0, 3), "all": torch.zeros(400, 300)})
    tensors = load_packed(tmp_path / "p").tensors
    assert bits(tensors["w"]) == bits(tensor)
    assert tensors["empty"].shape == (0, 3)
    assert not tensors["all"].any()


def test_99_percent_are_25_times_smaller_with_everything_that_is_stored():
    torch.manual_seed(0)
    model = ResNet()  # resnet32_he
    prune(model, 0.99, "weight")
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as if trained: no two values are equal, and none is zero
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                tensor.data.normal_()
    dense = len(save_torch(stored_tensors(model)))
    assert dense > 25 * len(pack(model.state_dict()))
    assert dense > 40 * len(pack(model.state_dict(), half=True))


@pytest.mark.parametrize("sparsity, coding", [(0.2, "mask"), (0.8, "mask"), (0.96, "gaps8"), (0.999, "gaps16")])
def test_the_smallest_coding_is_taken(sparsity, coding):
    torch.manual_seed(0)
    weight = torch.randn(200, 500)
    weight[torch.rand(200, 500) < sparsity] = 0
    stored = load(pack({"w": weight}))
    layout = json.loads(zlib.decompress(stored["layout"].tobytes()))
    assert layout["tensors"][0][2] == coding
    assert stored["values"].size == int(weight.count_nonzero())


def test_half_rounds_matrices_only(tmp_path):
    torch.manual_seed(0)
    weight, vector = torch.randn(20, 30), torch.randn(30)
    weight[torch.rand(20, 30) < 0.5] = 0
    weight[0, 0] = 1e-12  # rounds to zero
    save_packed(tmp_path / "p", {"w": weight, "v": vector}, half=True)
    tensors = load_packed(tmp_path / "p").tensors
    assert torch.equal(tensors["w"], weight.half().float())
    assert torch.equal(tensors["v"], vector)


@settings(deadline=None, max_examples=200)
@given(st.sets(st.integers(0, 200_000), max_size=50), st.sampled_from([np.uint8, np.uint16]))
def test_gaps_give_the_positions_back(positions, kind):
    expected = np.array(sorted(positions), np.int64)
    codes = _encode_gaps(expected, kind)
    assert codes.dtype == kind
    assert np.array_equal(_decode_gaps(codes), expected)


def test_other_types_are_refused():
    with pytest.raises(ValueError, match=r"w is torch\.float64: expected float32"):
        pack({"w": torch.zeros(2, dtype=torch.float64)})


def damage(name, value):
    def change(stored, layout):
        stored[name] = value(stored[name]) if callable(value) else value

    return change


def relayout(value):
    def change(stored, layout):
        layout["tensors"][0] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        damage("values", lambda v: v[:-1]),
        damage("values", lambda v: np.append(v, v)),
        damage("values", lambda v: v.astype(np.float64)),
        damage("gaps8", lambda v: v + 200),
        damage("code", np.zeros(3, np.uint8)),
        relayout(["w", [10**6, 10**6], "gaps8", 5]),
        relayout(["w", [-1, 5], "gaps8", 5]),
        relayout(["w", ["5"], "gaps8", 5]),
        relayout(["w", [50, 20], "pickle", 5]),
        relayout(["w", [50, 20], "gaps8 double", 5]),
        relayout(["w", [50, 20], "mask", 5]),
        relayout(["w", [50, 20], "dense", 0]),
        relayout([]),
        relayout(None),
    ],
)
def test_damaged_and_hostile_files_are_one_line(tmp_path, change):
    weight = torch.zeros(50, 20)
    weight.view(-1)[[3, 70, 500, 999]] = 1
    stored = load(pack({"w": weight, "v": torch.ones(3)}))
    layout = json.loads(zlib.decompress(stored["layout"].tobytes()))
    change(stored, layout)
    stored["layout"] = np.frombuffer(zlib.compress(json.dumps(layout).encode()), np.uint8)
    path = tmp_path / "p.safetensors"
    path.write_bytes(save(stored))
    with pytest.raises(UserError) as error:
        load_packed(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"x" * 100, None])
def test_no_packed_file(tmp_path, content):
    path = tmp_path / "p"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=str(path)):
        load_packed(path)


def test_a_layout_that_grows_without_end_is_refused(tmp_path):
    bomb = zlib.compress(b" " * 2**25, 9)
    (tmp_path / "p").write_bytes(save({"layout": np.frombuffer(bomb, np.uint8)}))
    with pytest.raises(UserError, match="layout doesn't end"):
        load_packed(tmp_path / "p")
