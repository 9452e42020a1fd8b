"""Classifiers and causal language models from transformers, built from a configuration."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from runner.data.torchvision_import import import_torchvision
from runner.errors import ConfigError, first_line
from runner.extras import need
from runner.models.foreign.base import Architecture, Arguments, Foreign, Weights, unknown
from runner.models.foreign.causal import CausalLM, check_causal, check_sizes, for_data, sizes_of
from runner.models.weights import check_fit, read_state
from runner.parameters import checked


class Classifier(nn.Module):
    """A transformers network that returns only its logits.

    Args:
        network: module that returns an output with `logits`.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Map images (N, C, H, W), or token ids (N, T) with a mask (N, T) of the valid ones, to logits (N, classes)."""
        mask = {} if attention_mask is None else {"attention_mask": attention_mask}
        logits: Tensor = self.network(x, **mask).logits
        return logits


class Transformers(Foreign):
    """A transformers network: a classifier of images or sequences, or a causal language model.

    Args:
        architecture: a model type, such as `vit`, `bert` or `gpt2`, or a folder with a config.json.
        weights: a file of weights. If `architecture` is a folder, the default is its model.safetensors.
        arguments: values of the configuration, such as `{hidden_size: 64, num_hidden_layers: 2}`.
        channels, image_size, classes: properties of the data, used if the configuration has them.
        vocabulary, context: number of token ids and window length of text. If `vocabulary` is given, the network is a
            language model.
    """

    kinds: tuple[str, ...] = ("images", "text")  # the first is used if the data does not determine it
    library = "transformers"

    @checked
    def __init__(
        self,
        architecture: Architecture,
        weights: Weights = None,
        arguments: Arguments = None,
        channels: int = 3,
        image_size: int = 224,
        classes: int = 1000,
        vocabulary: int | None = None,
        context: int = 1024,
    ) -> None:
        super().__init__(architecture, weights, arguments, channels, image_size, classes)
        self.vocabulary, self.context = vocabulary, context

    @classmethod
    def settle(cls, part: Mapping[str, Any], kind: str = "images") -> dict[str, Any]:
        """Return a configuration's model section with a folder replaced by what it contains.

        These are the model type, the values of its config.json and the path of its weights. A finished run can then be
        loaded without the folder.

        Args:
            part: the model section.
            kind: kind of the data. A stored language model keeps its own numbers of ids and positions, instead of using
                those of the text.

        Raises:
            ConfigError: its config.json can't be read.
        """
        folder = Path(str(part["architecture"])).expanduser()
        if not (folder / "config.json").is_file():
            if kind != "text" or part.get("weights") is None:
                return dict(part)
            usual = cls(part["architecture"], None, part.get("arguments"))._known()
            return {**part, "arguments": {**sizes_of(usual), **(part.get("arguments") or {})}}
        transformers = import_transformers()
        try:
            config = transformers.AutoConfig.from_pretrained(str(folder), local_files_only=True)
        except Exception as error:
            raise ConfigError(f"model.architecture={folder}: {first_line(error)[:150]}") from None
        file = folder / "model.safetensors"
        weights = part.get("weights") or (str(file) if file.is_file() else None)
        # Leave out the head's labels, which the data determines, and what older versions wrote beside sizes and rates.
        not_its = {
            "architectures",
            "transformers_version",
            "model_type",
            "dtype",
            "torch_dtype",
            "id2label",
            "label2id",
        }
        usual = transformers.AutoConfig.for_model(config.model_type).to_dict()
        known = {
            key: value
            for key, value in config.to_diff_dict().items()
            if key in usual and key not in not_its and not key.startswith("_")
        }
        sizes = sizes_of(config) if kind == "text" else {}
        arguments = {**known, **sizes, **(part.get("arguments") or {})}
        return {**part, "architecture": config.model_type, "weights": weights, "arguments": arguments}

    def construct(self) -> nn.Module:
        auto, config = self._choice()
        return self._wrapped(with_linear_layers(self._made(auto.from_config, config)), config)

    def _wrapped(self, network: nn.Module, config: Any) -> nn.Module:
        """Wrap the network in a module with the interface that tasks expect."""
        if self.vocabulary is None:
            return Classifier(network)
        model = CausalLM(network)
        check_causal(self.architecture, model, self.context)
        return model

    def _choice(self) -> tuple[Any, Any]:
        """Return the transformers auto class for the network, and the network's configuration."""
        transformers, usual = import_transformers(), self._known()
        if self.vocabulary is not None:
            given = for_data(usual, self.arguments, self.vocabulary, self.context)
            config = self._made(transformers.AutoConfig.for_model, self.architecture, **{**given, **self.arguments})
            if type(config) not in transformers.AutoModelForCausalLM._model_mapping:
                raise ConfigError(f"model.architecture={self.architecture}: transformers has no language model for it")
            check_sizes(self.architecture, config, self.vocabulary, self.context)
            return transformers.AutoModelForCausalLM, config
        about = {"num_channels": self.channels, "image_size": self.image_size}
        given = {name: value for name, value in about.items() if name in usual.to_dict()}
        # Sequences are padded, and networks that read their last token must know the padding id.
        padding = {"pad_token_id": 0} if getattr(usual, "pad_token_id", 0) is None else {}
        config = self._made(
            transformers.AutoConfig.for_model,
            self.architecture,
            **{**padding, **given, "num_labels": self.classes, **self.arguments},
        )
        for auto in (transformers.AutoModelForImageClassification, transformers.AutoModelForSequenceClassification):
            if type(config) in auto._model_mapping:
                return auto, config
        raise ConfigError(
            f"model.architecture={self.architecture}: transformers has no classifier of images or sequences for it"
        )

    def _known(self) -> Any:
        """Return the architecture's default configuration.

        Raises:
            ConfigError: there is no such architecture, or it has no such argument.
        """
        transformers = import_transformers()
        types = transformers.models.auto.configuration_auto.CONFIG_MAPPING_NAMES
        if self.architecture not in types:
            raise unknown("model.architecture", self.architecture, "transformers", types)
        usual = transformers.AutoConfig.for_model(self.architecture)
        for name in self.arguments:
            # These would make transformers fetch code from a hub.
            if name.startswith(("_", "auto_map", "quantization")) or "implementation" in name:
                raise ConfigError(f"model.arguments: {name} can't be set; expected sizes and rates of the network")
            if name not in usual.to_dict() and not hasattr(usual, name):
                raise unknown("model.arguments", name, f"{self.architecture}'s configuration", usual.to_dict())
        return usual

    def build(self) -> nn.Module:
        if self.weights is None:
            return self.construct()
        option = f"model.weights={self.weights}"
        file = self.weights_file(self.weights)
        if file is None:
            raise ConfigError(f"{option}: no such file")
        auto, config = self._choice()
        # transformers' own loading knows the names in older files, and encoders without a head.
        network, found = self._made(
            auto._model_mapping[type(config)].from_pretrained,
            *(None,),
            config=config,
            state_dict=read_state(file, option),
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
        shapes = {name for name, *_ in found["mismatched_keys"]}
        self._check_loaded(option, network, set(found["missing_keys"]), set(found["unexpected_keys"]), shapes)
        return self._wrapped(with_linear_layers(network.float().train()), config)

    def _check_loaded(
        self, option: str, network: nn.Module, lacks: set[str], others: set[str], shapes: set[str]
    ) -> None:
        """Raise a ConfigError if tensors other than those of the head don't fit."""
        inside = f"{network.base_model_prefix}."
        if self.vocabulary is not None:
            inside = ""
        if any(name.startswith(inside) for name in lacks | others | shapes):
            check_fit(option, sorted(lacks), sorted(others), sorted(shapes))

    def example(self, network: nn.Module, examples: int = 2) -> tuple[Tensor, ...]:
        assert isinstance(network, Classifier | CausalLM)
        if getattr(network.network, "main_input_name", "pixel_values") != "input_ids":
            return super().example(network, examples)
        return sentences(network.network.config, examples)


def sentences(config: Any, examples: int) -> tuple[Tensor]:
    """Return random token ids (examples, up to 16), as the arguments for a forward pass of a network."""
    length = min(16, int(getattr(config, "max_position_embeddings", 16)))
    return (torch.randint(1, int(config.vocab_size), (examples, length)),)


def with_linear_layers(network: nn.Module) -> nn.Module:
    """Replace transformers' Conv1D, whose weight is (inputs, outputs), by nn.Linear, in place."""
    conv1d = need("model=transformers", "transformers").pytorch_utils.Conv1D
    for name, module in list(network.named_modules()):
        if isinstance(module, conv1d):
            inputs, outputs = module.weight.shape
            layer = nn.Linear(inputs, outputs, device=module.weight.device)
            layer.load_state_dict({"weight": module.weight.detach().T.contiguous(), "bias": module.bias.detach()})
            network.set_submodule(name, layer)
    return network


def import_transformers() -> Any:
    import_torchvision()  # transformers' own import of it fails if it was built for CUDA
    transformers = need("model=transformers", "transformers")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers
