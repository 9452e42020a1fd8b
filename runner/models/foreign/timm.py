"""Networks from timm."""

from typing import Any

from torch import Tensor, nn

from runner.data.torchvision_import import import_torchvision
from runner.errors import ConfigError, first_line
from runner.extras import need
from runner.models.foreign.base import Foreign, unknown


class Timm(Foreign):
    """A network from timm, such as `resnet18`.

    Names of weights are the tags of `timm.list_pretrained`, or `default`. For arguments, see `Foreign`.
    """

    library = "timm"

    def construct(self) -> nn.Module:
        return self._made(self._timm().create_model, self.architecture, pretrained=False, **self._given())

    def _given(self) -> dict[str, Any]:
        for name in self.arguments:  # files that timm would unpickle, and locations to download from
            if name.startswith(("pretrained", "checkpoint", "cache")):
                raise ConfigError(f"model.arguments: {name} is not supported; load weights with model.weights=…")
        given = {"num_classes": self.classes, "in_chans": self.channels}
        sized = getattr(self._timm().get_pretrained_cfg(self.architecture), "fixed_input_size", False)
        return {**given, **({"img_size": self.image_size} if sized else {}), **self.arguments}

    def _timm(self) -> Any:
        import_torchvision()  # timm's own import fails if torchvision's does
        timm = need("model=timm", "timm")
        names = timm.list_models()
        if self.architecture not in names:  # nor a name on a hub, which a stored configuration might contain
            raise unknown("model.architecture", self.architecture, self.library, names)
        return timm

    def named_weights(self) -> dict[str, Tensor]:
        timm = self._timm()
        tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{self.architecture}.*")]
        if self.weights not in [*tags, "default"]:
            raise unknown("model.weights", str(self.weights), f"timm's {self.architecture}", ["default", *tags])
        name = self.architecture if self.weights == "default" else f"{self.architecture}.{self.weights}"
        try:
            network = timm.create_model(name, pretrained=True, **self._given())
        except Exception as error:  # no network, a full disk, a broken file
            raise ConfigError(f"model.weights={self.weights}: can't be downloaded: {first_line(error)[:150]}") from None
        state: dict[str, Tensor] = network.state_dict()
        return state
