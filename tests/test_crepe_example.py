"""A pretrained network on one's own data: examples/harmonic_tones.py and examples/crepe_network.py."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture(autouse=True)
def examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))


def test_tones_follow_from_the_seed_and_have_the_pitch_of_their_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import harmonic_tones

    monkeypatch.setattr(sys, "argv", ["harmonic_tones.py", str(tmp_path / "tones.npz"), "--tones", "60", "--seed", "3"])
    harmonic_tones.main()
    with np.load(tmp_path / "tones.npz") as held:
        frames, labels = held["inputs"], held["labels"]
    again, same = harmonic_tones.make_tones(60, 3)
    assert np.array_equal(frames, again) and np.array_equal(labels, same)
    assert not np.array_equal(frames, harmonic_tones.make_tones(60, 4)[0])
    assert frames.dtype == np.float32 and frames.shape == (60, 1024)
    assert np.allclose(frames.mean(1), 0, atol=1e-5) and np.allclose(frames.std(1, ddof=1), 1, atol=1e-4)
    assert labels.min() >= 0 and labels.max() < 360 and len(np.unique(labels)) > 40
    # The energy of a tone is concentrated at multiples of its pitch, not at multiples shifted by half.
    pitch = harmonic_tones.frequency(harmonic_tones.LOWEST + harmonic_tones.CENTS * labels)
    spectra = np.abs(np.fft.rfft(frames * np.hanning(1024), 16 * 1024)) ** 2

    def energy(shift: float) -> np.ndarray:
        bins = np.rint((pitch[:, None] * (np.arange(1, 4) + shift)) * 16 * 1024 / 16_000).astype(int)
        return np.take_along_axis(spectra, bins, 1).sum(1)

    high = pitch > 100  # the short frame blurs lower pitches
    assert (energy(0) > 3 * energy(0.5))[high].mean() > 0.9


@pytest.mark.parametrize(("size", "parameters"), [("tiny", 486_552), ("full", 22_239_976)])
def test_the_network_has_the_tensors_of_torchcrepes_files(size: str, parameters: int) -> None:
    import crepe_network

    with torch.device("meta"):
        network = crepe_network.Crepe(size=size)
        assert network(torch.empty(2, 1024)).shape == (2, 360)
    assert sum(tensor.numel() for tensor in network.parameters()) == parameters
    layers = [f"conv{number}{part}" for number in range(1, 7) for part in ("", "_BN")]
    assert [name for name, _ in network.named_children()] == [*layers, "classifier"]
    assert network.conv1.weight.shape[1:] == (1, 512, 1) and network.conv1_BN.eps == 0.0010000000474974513
