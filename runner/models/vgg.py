"""VGG-16 as in the paper's official code."""

from torch import Tensor, nn

from runner.models.blocks import check_one_for_each, conv, scaled
from runner.models.places import chain, layers_in
from runner.parameters import Counts, CountsOrNone, Fraction, Positive, checked


class VGG(nn.Module):
    """The official code's VGG (for-ai/TD, models/vgg): convolutional blocks, two dense layers and the logits.

    Each block has layers of conv3x3–BN–ReLU, followed by a 2x2 max-pool. The dense layers are dense–BN, *without* ReLU.
    With the 13 convolutions of Simonyan & Zisserman's configuration D and two dense layers of 4096, there are
    34,027,556 parameters for 32 px and 100 classes. Convolutions have no bias; dense layers have one.

    The two hidden dense layers and all convolutions except the first are prunable, by the same rule as in all models.
    The official code drops and prunes the same layers and also the first convolution. In evaluation, it doesn't mask
    the dense layers, so its accuracies during training are those of a network in which only convolutions are pruned.

    Args:
        channels, image_size, classes: properties of the data. Images are (N, channels, image_size, image_size), at
            least 32 px.
        widths: channels of each block.
        stages: number of convolutions of each block.
        dense: number of units of each hidden dense layer.
        width: factor for all widths, including the dense layers'.
        batch_norm_momentum: weight of the newest batch in the running statistics.
    """

    minimum_size = 32  # one pixel is left after five pools

    @checked
    def __init__(
        self,
        channels: int = 3,
        image_size: int = 32,
        classes: int = 10,
        widths: Counts = (64, 128, 256, 512, 512),
        stages: Counts = (2, 2, 3, 3, 3),
        dense: CountsOrNone = (4096, 4096),
        width: Positive = 1.0,
        batch_norm_momentum: Fraction = 0.1,
    ) -> None:
        super().__init__()
        check_one_for_each("stages", stages, widths)
        self.features = nn.Sequential()
        inputs, size = channels, image_size
        for outputs, count in zip(scaled(widths, width), stages, strict=True):
            for _ in range(count):
                norm = nn.BatchNorm2d(outputs, eps=1e-3, momentum=batch_norm_momentum)
                self.features.extend([conv(inputs, outputs, 3), norm, nn.ReLU()])
                inputs = outputs
            # TensorFlow's SAME: the odd pixel at the border forms its own window.
            self.features.append(nn.MaxPool2d(2, ceil_mode=True))
            size = -(-size // 2)
        inputs *= size * size
        self.dense = nn.Sequential()
        for outputs in scaled(dense, width):
            norm1d = nn.BatchNorm1d(outputs, eps=1e-3, momentum=batch_norm_momentum)
            self.dense.extend([nn.Linear(inputs, outputs), norm1d])
            inputs = outputs
        self.logits = nn.Linear(inputs, classes)
        self.feature_places = [
            *chain(layers_in(self.features, "features"), 1),
            *chain([*layers_in(self.dense, "dense"), "logits"], -1),
        ]
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.xavier_uniform_(module.weight)  # glorot_uniform, as in the official code
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, channels, H, W) to logits (N, classes)."""
        return self.logits(self.dense(self.features(x).flatten(1)))
