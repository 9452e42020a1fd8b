"""Image autoencoders with a vector as code."""

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from runner.models.blocks import scaled
from runner.models.layers import FeaturePlace
from runner.parameters import Count, CountsOrNone, Positive, checked


class Autoencoder(nn.Module):
    """A fully connected autoencoder with Dense–ReLU layers.

    The decoder mirrors the encoder. The code and the output have no ReLU. With widths 512 and 128 and a code of 32, the
    network on 28x28 pixels is 784-512-128-32-128-512-784. All layers except the last are prunable. The feature place is
    the code.

    Args:
        channels, image_size: shape of the images, (N, channels, image_size, image_size).
        classes: not used.
        widths: units of the encoder's hidden layers.
        code: number of features of the code.
        linear: whether to omit the ReLUs.
        width: factor for widths, but not for the code.
    """

    minimum_size = 1

    @checked
    def __init__(
        self,
        channels: int = 1,
        image_size: int = 28,
        classes: int = 10,
        widths: CountsOrNone = (512, 128),
        code: Count = 32,
        linear: bool = False,
        width: Positive = 1.0,
    ) -> None:
        super().__init__()
        self.shape = (channels, image_size, image_size)
        sizes = [channels * image_size * image_size, *scaled(widths, width), code]
        self.encoder = _dense(sizes, linear)
        self.decoder = _dense(sizes[::-1], linear)
        self.feature_places = [FeaturePlace("decoder.0", f"encoder.{len(self.encoder) - 1}", -1)]
        _initialise(self)

    def encode(self, images: Tensor) -> Tensor:
        """Encode images (N, channels, H, W) as codes (N, code)."""
        return self.encoder(images.flatten(1))

    def decode(self, code: Tensor) -> Tensor:
        """Decode codes (N, code) to images (N, channels, H, W)."""
        return self.decoder(code).view(-1, *self.shape)

    def forward(self, images: Tensor) -> Tensor:
        """Reconstruct images (N, channels, H, W) through their codes."""
        return self.decode(self.encode(images))


class ConvolutionalAutoencoder(nn.Module):
    """A convolutional autoencoder with linear layers before and after the code.

    For each width, the encoder has conv3x3/2–ReLU, and the decoder has ReLU, resizing (nearest pixel) to the
    corresponding size in the encoder, and conv3x3. All layers except the first and the last convolution are prunable.
    The feature place is the code.

    Args: as in `Autoencoder`, except that `widths` are numbers of channels and images have at least 8 px.
    """

    minimum_size = 8

    @checked
    def __init__(
        self,
        channels: int = 1,
        image_size: int = 28,
        classes: int = 10,
        widths: CountsOrNone = (16, 32),
        code: Count = 32,
        linear: bool = False,
        width: Positive = 1.0,
    ) -> None:
        super().__init__()
        self.linear = linear
        self.sizes, inputs = [image_size], channels
        self.encoder, decoder = nn.Sequential(), []
        for outputs in scaled(widths, width):
            self.encoder.append(nn.Conv2d(inputs, outputs, 3, 2, 1))
            decoder.append(nn.Conv2d(outputs, inputs, 3, 1, 1))
            self.sizes.append(-(-self.sizes[-1] // 2))
            inputs = outputs
        self.inner = (inputs, self.sizes[-1], self.sizes[-1])
        pixels = inputs * self.sizes[-1] ** 2
        self.to_code, self.from_code = nn.Linear(pixels, code), nn.Linear(code, pixels)
        self.decoder = nn.Sequential(*reversed(decoder))
        self.feature_places = [FeaturePlace("from_code", "to_code", -1)]
        _initialise(self)

    def encode(self, images: Tensor) -> Tensor:
        """Encode images (N, channels, H, W) as codes (N, code)."""
        x = images
        for convolution in self.encoder:
            x = self._activation(convolution(x))
        return self.to_code(x.flatten(1))

    def decode(self, code: Tensor) -> Tensor:
        """Decode codes (N, code) to images (N, channels, H, W)."""
        x = self.from_code(code).view(-1, *self.inner)
        for convolution, size in zip(self.decoder, self.sizes[-2::-1], strict=True):
            x = convolution(F.interpolate(self._activation(x), (size, size)))
        return x

    def forward(self, images: Tensor) -> Tensor:
        """Reconstruct images (N, channels, H, W) through their codes."""
        return self.decode(self.encode(images))

    def _activation(self, x: Tensor) -> Tensor:
        return x if self.linear else F.relu(x)


def _dense(sizes: Sequence[int], linear: bool) -> nn.Sequential:
    """Return linear layers of these sizes, with ReLUs between them unless `linear`."""
    layers = nn.Sequential()
    for index, (inputs, outputs) in enumerate(pairwise(sizes)):
        if index > 0 and not linear:
            layers.append(nn.ReLU())
        layers.append(nn.Linear(inputs, outputs))
    return layers


def _initialise(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
