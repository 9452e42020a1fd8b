"""Classification networks from torchvision."""

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from runner.data.torchvision_import import import_torchvision
from runner.errors import ConfigError, first_line
from runner.models.foreign.base import Foreign, unknown, with_channels


class Torchvision(Foreign):
    """A network from torchvision.models, such as `resnet18`.

    Names of weights are, for example, `IMAGENET1K_V1` or `DEFAULT`. For arguments, see `Foreign`.
    """

    library = "torchvision"

    def construct(self) -> nn.Module:
        models = self._models()
        arguments = {"num_classes": self.classes, **self.arguments}
        if "image_size" not in arguments and self._takes_image_size(models, arguments):
            arguments["image_size"] = self.image_size
        network = self._made(models.get_model, self.architecture, weights=None, **arguments)
        return with_channels(network, self.channels, self.library)

    def _models(self) -> Any:
        models = import_torchvision().models
        names = models.list_models(module=models)
        if self.architecture not in names:
            raise unknown("model.architecture", self.architecture, self.library, names)
        return models

    def _takes_image_size(self, models: Any, arguments: dict[str, Any]) -> bool:
        """Return whether the network's class has the argument `image_size`."""
        try:
            with torch.device("meta"):
                network = models.get_model(self.architecture, weights=None, **arguments)
        except Exception:  # networks that compute while they are built don't have it; `construct` reports errors
            return False
        return "image_size" in inspect.signature(type(network)).parameters

    def named_weights(self) -> dict[str, Tensor]:
        weights = self._models().get_model_weights(self.architecture)
        names = [*weights.__members__]
        if self.weights not in names:
            raise unknown("model.weights", str(self.weights), f"{self.library}'s {self.architecture}", names)
        try:
            state: dict[str, Tensor] = weights[str(self.weights)].get_state_dict(progress=False, check_hash=True)
        except Exception as error:  # no network, a full disk, a broken file
            raise ConfigError(f"model.weights={self.weights}: can't be downloaded: {first_line(error)[:150]}") from None
        return state
