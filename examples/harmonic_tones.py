"""Make a data set for pitch estimation: harmonic tones with noise, in the 360 pitch classes of CREPE.

    python examples/harmonic_tones.py tones.npz --tones 12000 --seed 0

Writes `inputs` (N, 1024) float32, 64 ms at 16 kHz, and `labels` (N,) int64, from 0 to 359, for `data=arrays`. Each
tone is a fundamental with up to 19 overtones below 8 kHz and white noise:

- pitch: uniform in cents over the classes, so log-uniform in Hz, from 31.5 to 2,017 Hz. Class k is centred on
  10 · 2^(c / 1200) Hz with c = 1997.3794084376191 + 20 k cents (Kim et al., 2018, as in torchcrepe/convert.py), so
  class 0 is centred on 31.70 Hz; a tone's label is the nearest class.
- harmonics: 1 to 20, the n-th of amplitude n^-d · u with a decay d uniform in [0, 2] for each tone and u uniform in
  [0.2, 1] for each harmonic, random phases, no vibrato.
- noise: white, Gaussian; signal-to-noise ratio uniform from 0 to 40 dB.

Finally, each frame is centred and divided by its standard deviation, as torchcrepe does with its input.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

RATE = 16_000  # samples per second
SAMPLES = 1024
CLASSES = 360
CENTS = 20  # between neighbouring classes
LOWEST = 1997.3794084376191  # cents above 10 Hz of class 0


def frequency(cents: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert cents above 10 Hz to Hz."""
    return 10 * 2 ** (cents / 1200)


def make_tones(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return frames (count, 1024), each of mean 0 and standard deviation 1, and their pitch classes (count,)."""
    random = np.random.default_rng(seed)
    position = random.uniform(-0.5, CLASSES - 0.5, count)  # in classes; the nearest class is the label
    labels = np.clip(np.rint(position), 0, CLASSES - 1).astype(np.int64)
    pitch = frequency(LOWEST + CENTS * position)
    time = np.arange(SAMPLES) / RATE
    frames = np.empty((count, SAMPLES), np.float32)
    for index in range(count):
        harmonic = np.arange(1, random.integers(1, 20, endpoint=True) + 1)
        amplitude = harmonic ** -random.uniform(0, 2) * random.uniform(0.2, 1, len(harmonic))
        phase = random.uniform(0, 2 * np.pi, len(harmonic))
        heard = harmonic * pitch[index] < RATE / 2  # higher frequencies would be aliased
        angle = 2 * np.pi * pitch[index] * harmonic[heard, None] * time + phase[heard, None]
        tone = amplitude[heard] @ np.sin(angle)
        noise = random.standard_normal(SAMPLES) * tone.std() * 10 ** (-random.uniform(0, 40) / 20)
        frame = tone + noise
        frames[index] = (frame - frame.mean()) / frame.std(ddof=1)
    return frames, labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="the .npz file to write")
    parser.add_argument("--tones", type=int, default=12_000)
    parser.add_argument("--seed", type=int, default=0, help="the same seed makes the same tones")
    asked = parser.parse_args()
    frames, labels = make_tones(asked.tones, asked.seed)
    np.savez(asked.file, inputs=frames, labels=labels)
    print(f"{asked.file}: {len(frames)} tones")


if __name__ == "__main__":
    main()
