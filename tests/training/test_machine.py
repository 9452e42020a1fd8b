import pytest
import torch

from runner.errors import ConfigError
from runner.training.machine import autocast, resolve_device, resolve_precision, seed_generators, slow_precision


def test_a_missing_device_is_named():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert resolve_device("auto").type in ("cpu", "mps")
    with pytest.raises(ConfigError, match=r"device=cuda: not available on this machine; expected auto, .*cpu"):
        resolve_device("cuda")


@pytest.mark.parametrize("fast", [True, False])
def test_auto_precision_follows_the_hardware(monkeypatch, fast):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: fast)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert resolve_precision("auto", torch.device("cpu")) == ("bf16" if fast else "float32")
    assert resolve_precision("bf16", torch.device("cpu")) == "bf16"


@pytest.mark.parametrize("machine", ["x86_64", "arm64"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("precision", ["bf16", "float32"])
def test_imitated_bf16_is_warned_of(monkeypatch, machine, device, fast, precision):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: fast)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr("platform.machine", lambda: machine)
    said = slow_precision(precision, torch.device(device))
    assert (said is not None) == ((machine, device, fast, precision) == ("x86_64", "cpu", False, "bf16"))
    assert said is None or ("precision=float32" in said and "\n" not in said)


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("float32", torch.float32)])
def test_autocast_computes_in_the_precision(precision, dtype):
    with autocast(precision, torch.device("cpu")):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_seeding_gives_the_numbers_of_manual_seed():
    seed_generators(2**62 + 1, torch.device("cpu"))
    ours = torch.rand(5)
    torch.manual_seed(2**62 + 1)
    assert torch.equal(ours, torch.rand(5))
