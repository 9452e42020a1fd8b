"""A decoder-only Transformer for language modelling."""

from collections.abc import Callable
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runner.errors import ParameterError
from runner.models.attention import Cache, CausalLayer
from runner.models.layers import FeaturePlace
from runner.parameters import BelowOne, Count, Positive, checked
from runner.rules import choice

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "relu": F.relu}


class GPT(nn.Module):
    """A causal Transformer as GPT-2 (Radford et al., 2019): pre-norm, learned positions, tied embeddings.

    Prunable are the projections of all attentions and the feed-forward matrices; feature places are the hidden units of
    the feed-forward sublayers. The embedding, which also makes the logits, and the positions are left alone. Weights
    begin as GPT-2's: normal with deviation 0.02, and 0.02 / √(2 layers) where a sublayer's output is added to the
    residual stream.

    Args:
        vocabulary: token ids.
        context: positions, the longest sequence.
        layers: each with attention and feed-forward.
        features: of each position; a multiple of the heads.
        heads: of each attention.
        feed_forward: hidden units of the feed-forward sublayers.
        activation: "gelu" or "relu", of the feed-forward sublayers.
        residual_dropout: plain dropout of the embeddings and of what each sublayer adds.
        width: multiplies features, to a multiple of the heads, and feed_forward.

    Raises:
        ParameterError: features is no multiple of the heads.
    """

    kind = "text"

    @checked
    def __init__(
        self,
        vocabulary: int,
        context: int,
        layers: Count = 4,
        features: Count = 128,
        heads: Count = 4,
        feed_forward: Count = 512,
        activation: Annotated[str, choice(*ACTIVATIONS)] = "gelu",
        residual_dropout: BelowOne = 0.0,
        width: Positive = 1.0,
    ) -> None:
        super().__init__()
        if features % heads:
            raise ParameterError("features", features, f"a multiple of the heads, {heads}")
        features = max(1, round(features * width / heads)) * heads
        hidden = max(1, round(feed_forward * width))
        self.context = context
        self.embedding = nn.Embedding(vocabulary, features)
        self.embedding_of_positions = nn.Embedding(context, features)
        self.layers = nn.ModuleList(
            CausalLayer(features, heads, hidden, residual_dropout, ACTIVATIONS[activation]) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(features)
        self.dropout = nn.Dropout(residual_dropout)
        stacks = [f"layers.{layer}.feed_forward" for layer in range(layers)]
        self.feature_places = [FeaturePlace(f"{name}.outer", f"{name}.inner", -1) for name in stacks]
        self.prunable = [name for name, module in self.named_modules() if isinstance(module, nn.Linear)]
        self._initialise()

    def _initialise(self) -> None:
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                added = name.endswith((".attention.output", ".feed_forward.outer"))
                nn.init.normal_(module.weight, std=0.02 / ((2 * len(self.layers)) ** 0.5 if added else 1.0))
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (N, T) int64, T <= context → logits (N, T, vocabulary) of the token after each."""
        x = self._embed(tokens)
        for layer in self.layers:
            x = layer(x)
        return self._logits(x)

    def start(self) -> Cache:
        """The state before the first token."""
        return Cache(past=[None] * len(self.layers))

    def step(self, tokens: Tensor, state: Cache) -> Tensor:
        """The next tokens (N, T) → logits (N, T, vocabulary) of those after them; the state takes them in.

        T is any number at the first step and 1 afterwards; together they are at most `context`.
        """
        x = self._embed(tokens, state.length)
        for i, layer in enumerate(self.layers):
            x, state.past[i] = layer.step(x, state.past[i])  # type: ignore[operator]
        state.length += tokens.shape[1]
        return self._logits(x)

    def _embed(self, tokens: Tensor, first: int = 0) -> Tensor:
        places = torch.arange(first, first + tokens.shape[1], device=tokens.device)
        return self.dropout(self.embedding(tokens) + self.embedding_of_positions(places))

    def _logits(self, x: Tensor) -> Tensor:
        return F.linear(self.norm(x), self.embedding.weight)
