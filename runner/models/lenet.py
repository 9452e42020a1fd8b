"""LeNet as in the paper's official code."""

from torch import Tensor, nn

from runner.errors import ParameterError
from runner.models.blocks import scaled
from runner.models.places import chain, layers_in
from runner.parameters import Counts, CountsOrNone, Positive, checked


class LeNet(nn.Module):
    """Two conv5x5–ReLU–pool blocks, a dense layer and the logits, as in the official code (for-ai/TD, models/lenet).

    Convolutions are not padded. With a dense layer of 500 units, there are 208,382 parameters on CIFAR-10. With dense
    layers of 120 and 84 units, as in the code of October 2018, the network has the shape of LeNet-5. The code
    standardises each image once more inside the network; here that is left to `data.normalize=image`.

    Args:
        channels, image_size, classes: properties of the data. Images have the shape (N, channels, image_size,
            image_size), and two convolutions need at least 13 px.
        widths: channels of each convolution.
        dense: units of each hidden dense layer.
        width: factor for all widths.
    """

    minimum_size = 13  # needed by two unpadded 5x5 convolutions with a pool between them

    @checked
    def __init__(
        self,
        channels: int = 3,
        image_size: int = 32,
        classes: int = 10,
        widths: Counts = (6, 16),
        dense: CountsOrNone = (500,),
        width: Positive = 1.0,
    ) -> None:
        super().__init__()
        self.features = nn.Sequential()
        inputs, size = channels, image_size
        for outputs in scaled(widths, width):
            # TensorFlow's SAME pooling: the odd pixel at the border forms its own window.
            pool = nn.MaxPool2d(2, ceil_mode=True)
            self.features.extend([nn.Conv2d(inputs, outputs, 5), nn.ReLU(), pool])
            inputs, size = outputs, -(-(size - 4) // 2)
        if size < 1:
            raise ParameterError("widths", list(widths), f"fewer convolutions, as nothing is left of {image_size} px")
        inputs *= size * size
        self.dense = nn.Sequential()
        for outputs in scaled(dense, width):
            self.dense.extend([nn.Linear(inputs, outputs), nn.ReLU()])
            inputs = outputs
        self.logits = nn.Linear(inputs, classes)
        self.feature_places = [
            *chain(layers_in(self.features, "features"), 1),
            *chain([*layers_in(self.dense, "dense"), "logits"], -1),
        ]
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.xavier_normal_(module.weight)  # glorot_normal, as in the official code
                assert module.bias is not None
                nn.init.constant_(module.bias, 0.1 if isinstance(module, nn.Conv2d) else 0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, channels, H, W) to logits (N, classes)."""
        return self.logits(self.dense(self.features(x).flatten(1)))
