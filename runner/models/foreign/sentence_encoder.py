"""Sentence encoders from transformers, with mean pooling over the tokens."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from runner.models.foreign.transformers import Transformers, import_transformers, sentences
from runner.models.heads import AttentionHeads
from runner.models.layers import FeaturePlace
from runner.models.weights import check_fit


class MeanPooled(nn.Module):
    """A network that maps token ids (N, T), padded with `padding`, to embeddings (N, features) of unit length.

    The network's last hidden states are averaged over the tokens, as in sentence-transformers (Reimers & Gurevych,
    2019). All linear layers are prunable. Feature places and heads are found if the layers of each block are named like
    BERT's.

    Args:
        network: module that returns an output with `last_hidden_state`.
        padding: the padding id.
    """

    def __init__(self, network: nn.Module, padding: int) -> None:
        super().__init__()
        self.network = network
        self.padding = padding
        self.prunable = [name for name, module in self.named_modules() if isinstance(module, nn.Linear)]
        self.feature_places = tuple(
            FeaturePlace(f"{block}.output.dense", f"{block}.intermediate.dense", -1)
            for block in _endings(self.prunable, ".intermediate.dense")
        )
        heads = getattr(getattr(network, "config", None), "num_attention_heads", 1)
        self.attention_heads = tuple(
            AttentionHeads(
                f"{block}.output.dense", tuple((f"{block}.self.{part}", 1) for part in ("query", "key", "value")), heads
            )
            for block in _endings(self.prunable, ".self.query")
            if f"{block}.output.dense" in self.prunable
        )

    def forward(self, ids: Tensor) -> Tensor:
        counted = ids != self.padding
        states = self.network(ids, attention_mask=counted.long()).last_hidden_state
        weights = counted.unsqueeze(-1).to(states.dtype)
        return F.normalize((states * weights).sum(1) / weights.sum(1).clamp(min=1), dim=-1)


def _endings(names: list[str], ending: str) -> list[str]:
    return [name.removesuffix(ending) for name in names if name.endswith(ending)]


class SentenceEncoder(Transformers):
    """A transformers encoder with mean pooling, like most sentence-transformers.

    Args:
        architecture: a folder with config.json and model.safetensors, or a model type (`bert`).
        weights, arguments: see `Transformers`.
    """

    kinds = ("sentences",)

    def __init__(self, architecture: str, weights: str | None = None, arguments: dict[str, Any] | None = None) -> None:
        super().__init__(architecture, weights, arguments)

    def _choice(self) -> tuple[Any, Any]:
        self._known()
        transformers = import_transformers()
        return transformers.AutoModel, self._made(
            transformers.AutoConfig.for_model, self.architecture, **self.arguments
        )

    def _wrapped(self, network: nn.Module, config: Any) -> nn.Module:
        if hasattr(network, "pooler"):
            network.pooler = None  # type: ignore[assignment]
        return MeanPooled(network, int(getattr(config, "pad_token_id", 0) or 0))

    def _check_loaded(
        self, option: str, network: nn.Module, lacks: set[str], others: set[str], shapes: set[str]
    ) -> None:
        check_fit(option, sorted(name for name in lacks if not name.startswith("pooler.")), [], sorted(shapes))

    def example(self, network: nn.Module, examples: int = 2) -> tuple[Tensor, ...]:
        return sentences(network.network.config, examples)  # type: ignore[union-attr]
