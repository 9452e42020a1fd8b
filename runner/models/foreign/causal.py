"""Causal language models from transformers with this package's interface, from token ids to logits."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from runner.errors import ConfigError
from runner.models.heads import AttentionHeads
from runner.models.modes import evaluation_mode

_SPECIAL = ("pad_token_id", "bos_token_id", "eos_token_id")
_SEPARATE = ("q_proj", "k_proj", "v_proj")


@dataclass
class Past:
    """Keys and values of the tokens so far, in the network's own format; None before the first token."""

    values: Any = None


class CausalLM(nn.Module):
    """A causal language model that returns only its logits.

    All linear layers except the one that produces the logits are prunable.

    Args:
        network: module that takes token ids and returns an output with `logits`.

    Attributes:
        context: maximum sequence length; None if the configuration doesn't specify one.
        attention_heads: heads of attention modules with projections q_proj, k_proj and v_proj, a c_attn like GPT-2's,
            or a query_key_value like GPT-NeoX's. Heads of queries that share keys and values count as one head.
    """

    kind = "text"

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        config: Any = network.config
        longest = getattr(config, "max_position_embeddings", None)
        self.context: int | None = None if longest is None else int(longest)
        logits = network.get_output_embeddings()  # type: ignore[operator]
        self.prunable = [n for n, m in self.named_modules() if isinstance(m, nn.Linear) and m is not logits]
        count = int(getattr(config, "num_attention_heads", 0) or 0)
        self.attention_heads = tuple(_heads(self, count, getattr(config, "num_key_value_heads", None) or count))
        taken = inspect.signature(network.forward).parameters
        # The name of the argument and of the output's attribute; transformers renamed them in version 5.
        self._past = next((name for name in ("cache", "past_key_values") if name in taken), None)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (N, T), int64, to next-token logits (N, T, vocabulary)."""
        logits: Tensor = self.network(tokens, **({"use_cache": False} if self._past else {})).logits
        return logits

    def start(self) -> Past | None:
        """Return the initial decoding state; None if the network doesn't cache earlier tokens."""
        return Past() if self._past else None

    def step(self, tokens: Tensor, state: Past) -> Tensor:
        """Map the next tokens (N, T) to next-token logits (N, T, vocabulary), and add the tokens to the state."""
        assert self._past is not None
        output = self.network(tokens, **{self._past: state.values}, use_cache=True)
        state.values = getattr(output, self._past)
        logits: Tensor = output.logits
        return logits


def _heads(model: nn.Module, count: int, groups: int) -> Iterator[AttentionHeads]:
    """Find attention modules of known kinds by the names and shapes of their layers."""
    for name, module in model.named_modules() if count else ():
        layers = {child: layer for child, layer in module.named_children() if isinstance(layer, nn.Linear)}
        output = next((one for one in ("o_proj", "out_proj", "c_proj", "dense") if one in layers), None)
        if output is None:
            continue
        width = layers[output].in_features
        if layers.keys() >= set(_SEPARATE):
            rows = [layers[one].out_features for one in _SEPARATE]
            if rows[0] == width and all(row % groups == 0 for row in rows):
                yield AttentionHeads(f"{name}.{output}", tuple((f"{name}.{one}", 1) for one in _SEPARATE), groups)
            continue
        # GPT-2 stacks all queries, all keys and all values; GPT-NeoX and BLOOM keep those of each head together.
        for fused, matrices in (("c_attn", 3), ("query_key_value", 1)):
            if fused in layers and layers[fused].out_features == 3 * width and width % count == 0:
                yield AttentionHeads(f"{name}.{output}", ((f"{name}.{fused}", matrices),), count)


def sizes_of(config: Any) -> dict[str, int]:
    """Return a configuration's `vocab_size` and `max_position_embeddings`, under its own names, if it has them."""
    names = {name: config.attribute_map.get(name, name) for name in ("vocab_size", "max_position_embeddings")}
    found = {own: getattr(config, name, None) for name, own in names.items()}
    return {own: int(value) for own, value in found.items() if value is not None}


def for_data(usual: Any, arguments: Mapping[str, Any], vocabulary: int, context: int) -> dict[str, Any]:
    """Return the configuration values that are determined by the data, except those that the arguments set.

    If the vocabulary size comes from the data, special tokens are unset: otherwise the token whose id equals the
    padding id would never be trained.
    """
    about = {"vocab_size": vocabulary, "max_position_embeddings": context}
    known = {name: usual.attribute_map.get(name, name) for name in about}
    given = {n: v for n, v in about.items() if hasattr(usual, n) and not {n, known[n]} & arguments.keys()}
    if "vocab_size" in given:
        given |= {name: None for name in _SPECIAL if hasattr(usual, name) and name not in arguments}  # type: ignore[misc]
    return given


def check_sizes(architecture: str, config: Any, vocabulary: int, context: int) -> None:
    """Raise a ConfigError if the network has fewer ids or positions than the data."""
    ids, positions = getattr(config, "vocab_size", None), getattr(config, "max_position_embeddings", None)
    if ids is not None and ids < vocabulary:
        raise ConfigError(
            f"model.architecture={architecture} has a vocab_size of {ids}, but the data has {vocabulary} tokens; "
            "data.tokens=FOLDER uses those of its tokenizer.json"
        )
    if positions is not None and positions < context:
        raise ConfigError(f"data.context={context}: model.architecture={architecture} has {positions} positions")


@torch.no_grad()
def check_causal(architecture: str, model: CausalLM, context: int) -> None:
    """Raise a ConfigError if the network's output for a token depends on later tokens."""
    tokens = torch.zeros(2, min(4, context), dtype=torch.int64)
    tokens[1, -1] = 1
    with evaluation_mode(model):
        first, second = model(tokens)[:, :-1]
    if not (first - second).abs().max() <= 1e-5 * first.abs().max():
        raise ConfigError(
            f"model.architecture={architecture} sees the tokens that it should predict; "
            "expected a causal network, or model.arguments={is_decoder: true} if it has this option"
        )
