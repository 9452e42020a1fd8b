"""A decoder-only Transformer for language modelling."""

from collections.abc import Callable
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runner.errors import ParameterError
from runner.models.attention import Cache, CausalLayer, Rotation, rotation
from runner.models.layers import FeaturePlace
from runner.parameters import BelowOne, Count, Positive, checked
from runner.rules import choice

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "relu": F.relu}
POSITIONS = ("learned", "rotary")


class GPT(nn.Module):
    """A causal Transformer like GPT-2 (Radford et al., 2019): pre-norm, learned or rotary positions, tied embeddings.

    The projections of all attention modules and the feed-forward matrices are prunable. Feature places are the hidden
    units of the feed-forward sublayers. The embedding, which also produces the logits, and the positions are not
    prunable. Weights are initialised as in GPT-2: normal with standard deviation 0.02, and 0.02 / √(2 layers) where a
    sublayer's output is added to the residual stream.

    Args:
        vocabulary: number of token ids.
        context: tokens per training window, and the maximum sequence length with learned positions.
        layers: number of layers, each with attention and feed-forward.
        features: features per position; a multiple of the heads.
        heads: heads per attention module.
        feed_forward: hidden units of the feed-forward sublayers.
        activation: activation of the feed-forward sublayers, "gelu" or "relu".
        residual_dropout: rate of ordinary dropout on the embeddings and on the output of each sublayer.
        width: factor for features, rounded to a multiple of the heads, and for feed_forward.
        positions: "learned", an embedding that is added to the tokens', or "rotary", which rotates queries and keys (Su
            et al., 2021; see `rotated`), has no weights and isn't limited to the context.

    Attributes:
        context: maximum sequence length; None with rotary positions.

    Raises:
        ParameterError: features isn't a multiple of the heads, or of twice the heads with rotary positions.
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
        positions: Annotated[str, choice(*POSITIONS)] = "learned",
    ) -> None:
        super().__init__()
        rotary = positions == "rotary"
        if features % heads:
            raise ParameterError("features", features, f"a multiple of the heads, {heads}")
        if rotary and features % (2 * heads):
            raise ParameterError("features", features, f"a multiple of {2 * heads}, as rotary embeddings rotate pairs")
        unit = 2 * heads if rotary else heads
        features = max(1, round(features * width / unit)) * unit
        hidden = max(1, round(feed_forward * width))
        self.context = None if rotary else context
        self.features_of_head = features // heads
        self.embedding = nn.Embedding(vocabulary, features)
        self.embedding_of_positions = None if rotary else nn.Embedding(context, features)
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
        """Map tokens (N, T), int64, with T at most the context, to next-token logits (N, T, vocabulary)."""
        x, turn = self._embed(tokens)
        for layer in self.layers:
            x = layer(x, turn)
        return self._logits(x)

    def start(self) -> Cache:
        """Return the initial decoding state."""
        return Cache(past=[None] * len(self.layers))

    def step(self, tokens: Tensor, state: Cache) -> Tensor:
        """Map the next tokens (N, T) to next-token logits (N, T, vocabulary), and add the tokens to the state.

        T is any number at the first step and 1 afterwards. With learned positions, all steps together have at most
        `context` tokens.
        """
        x, turn = self._embed(tokens, state.length)
        for i, layer in enumerate(self.layers):
            x, state.past[i] = layer.step(x, state.past[i], turn)  # type: ignore[operator]
        state.length += tokens.shape[1]
        return self._logits(x)

    def _embed(self, tokens: Tensor, first: int = 0) -> tuple[Tensor, Rotation | None]:
        """Return the first layer's input, and the rotation of queries and keys, if positions are rotary."""
        count, x = tokens.shape[1], self.embedding(tokens)
        if self.embedding_of_positions is None:
            return self.dropout(x), rotation(first, count, self.features_of_head, tokens.device)
        places = torch.arange(first, first + count, device=tokens.device)
        return self.dropout(x + self.embedding_of_positions(places)), None

    def _logits(self, x: Tensor) -> Tensor:
        return F.linear(self.norm(x), self.embedding.weight)
