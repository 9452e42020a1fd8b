"""scikit-learn's handwritten digits: real images, nothing to download."""

from __future__ import annotations

import importlib

import numpy as np
import torch

from runner.data import normalization
from runner.data.images import ImageData, ImageSplit
from runner.data.splitting import stratified_count
from runner.parameters import BelowOne, CountFrom0, checked

TEST_IMAGES = 360


class Digits(ImageData):
    """1,797 grayscale images of 8x8 in ten classes (Alpaydin and Kaynak, 1998).

    Stratified, always the same: 360 for testing, 1,437 for training, of which 144 for validation (10 %) leave 1,293.
    """

    @checked
    def __init__(
        self,
        validation: BelowOne = 0.1,
        crop: CountFrom0 = 1,
        flip: bool = False,
        normalize: normalization.Kind = "channel",
    ) -> None:
        # Imported here: scikit-learn takes a second, and only this set needs it.
        digits = importlib.import_module("sklearn.datasets").load_digits()
        pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, None]
        both = ImageSplit(torch.from_numpy(pixels), torch.from_numpy(digits.target.astype(np.int64)))
        kept, taken = stratified_count(digits.target, TEST_IMAGES)
        train, test = both[torch.from_numpy(kept)], both[torch.from_numpy(taken)]
        names = tuple("0123456789")
        super().__init__(train, test, names, validation=validation, crop=crop, flip=flip, normalize=normalize)
