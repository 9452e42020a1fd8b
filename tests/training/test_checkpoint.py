"""A checkpoint is restored exactly, or not at all."""

import pytest
import torch

from runner.errors import DamagedRun
from runner.training import checkpoint

CPU = torch.device("cpu")
STATE = {"step": 3, "model": {"w": torch.arange(15.0).reshape(3, 5), "b": torch.ones(2)}, "seconds": 1.5}


def same(state) -> bool:
    tensors = state.pop("model")
    assert tensors.keys() == STATE["model"].keys()
    return state == {"step": 3, "seconds": 1.5} and all(torch.equal(tensors[name], t) for name, t in tensors.items())


def test_comes_back(tmp_path):
    path = tmp_path / "checkpoint.pt"
    assert checkpoint.load(path, CPU) is None
    checkpoint.save(path, STATE)
    assert same(checkpoint.load(path, CPU))
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_no_flipped_bit_changes_what_is_loaded(tmp_path):
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, STATE)
    whole = path.read_bytes()
    noticed = 0
    places = range(0, len(whole), 3)
    for place in places:
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            state = checkpoint.load(path, CPU)
        except DamagedRun as error:
            assert str(error).startswith(f"{path} is damaged (")
            noticed += 1
        else:
            assert same(state), place
    assert noticed >= len(places) - 8, "all but those of the mark that says there is a checksum"


@pytest.mark.parametrize("left", [0, 1, 100, -1, -40, -41])
def test_a_file_cut_short_changes_nothing_either(left, tmp_path):
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, STATE)
    path.write_bytes(path.read_bytes()[:left])
    try:
        assert same(checkpoint.load(path, CPU))
    except DamagedRun:
        assert left != -40, "what torch.save wrote is whole"


def test_one_without_a_checksum_is_read(tmp_path):
    path = tmp_path / "checkpoint.pt"
    torch.save(STATE, path)
    assert same(checkpoint.load(path, CPU))
