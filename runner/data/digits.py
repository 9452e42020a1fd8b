"""scikit-learn's handwritten digits, which need no download."""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from pathlib import Path

import numpy as np
import torch

from runner.data import normalization
from runner.data.images import ImageData, ImageSplit
from runner.data.splitting import stratified_count
from runner.parameters import BelowOne, CountFrom0, checked

TEST_IMAGES = 360


class Digits(ImageData):
    """1,797 grayscale images of 8x8 pixels in ten classes (Alpaydin and Kaynak, 1998).

    The splits are stratified and always the same: 360 images for testing and 1,437 for training. By default, 144 (10 %)
    of the latter are used for validation, which leaves 1,293.
    """

    @checked
    def __init__(
        self,
        validation: BelowOne = 0.1,
        crop: CountFrom0 = 1,
        flip: bool = False,
        normalize: normalization.Kind = "channel",
    ) -> None:
        values, labels = _digits()
        pixels = np.rint(values.reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
        both = ImageSplit(torch.from_numpy(pixels), torch.from_numpy(labels))
        kept, taken = stratified_count(labels, TEST_IMAGES)
        train, test = both[torch.from_numpy(kept)], both[torch.from_numpy(taken)]
        names = tuple("0123456789")
        super().__init__(train, test, names, validation=validation, crop=crop, flip=flip, normalize=normalize)


@cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    """Return pixels (1797, 64) from 0 to 16 and labels (1797,). The arrays are shared and must not be modified."""
    # Read the file directly: importing scikit-learn, and with it SciPy, takes as long as a hundred training steps.
    package = importlib.util.find_spec("sklearn")
    for folder in (package and package.submodule_search_locations) or ():
        file = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if file.is_file():
            rows = np.loadtxt(file, delimiter=",")
            return rows[:, :-1], rows[:, -1].astype(np.int64)
    digits = importlib.import_module("sklearn.datasets").load_digits()
    return digits.data, digits.target.astype(np.int64)
