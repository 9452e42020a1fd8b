"""The encoder–decoder Transformer, for translation and other sentence-pair tasks."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runner.errors import ParameterError
from runner.models.attention import Cache, DecoderLayer, EncoderLayer, KeysValues
from runner.models.layers import FeaturePlace
from runner.parameters import BelowOne, Count, Positive, checked
from runner.rules import whole

PAD, BEGIN, END = 0, 1, 2


@dataclass(kw_only=True)
class DecoderState(Cache):
    """Decoding state of B hypotheses for each of N sentences.

    The cache holds N·B sequences. At each index, `select` may only choose hypotheses of the same sentence.
    """

    memory: list[KeysValues]  # for each layer's attention to the source, N each
    mask: Tensor  # (N, 1, 1, S), True where the source isn't padding


class Transformer(nn.Module):
    """The Transformer of Vaswani et al. (2017) with LayerNorm before each sublayer and one after each stack.

    A single matrix embeds source and target tokens and produces the logits. As in the paper (section on the
    Transformer), the projections of all attention modules and the feed-forward matrices are prunable. Feature places
    are the hidden units of the feed-forward sublayers.

    Args:
        vocabulary: number of tokens; 0 is padding, 1 begins and 2 ends a sentence.
        layers: layers per stack.
        features: features per position (d_model).
        heads: heads per attention module.
        feed_forward: hidden units of the feed-forward sublayers.
        residual_dropout: rate of ordinary dropout on the embeddings and on the output of each sublayer.
        width: factor for features, rounded to a multiple of 2·heads, and for feed_forward.

    Raises:
        ValueError: features isn't a multiple of 2·heads (heads have equal sizes; positions are sine-cosine pairs).
    """

    kind = "pairs"

    @checked
    def __init__(
        self,
        vocabulary: int,
        layers: Count = 2,
        features: int = 128,
        heads: Count = 4,
        feed_forward: Count = 512,
        residual_dropout: BelowOne = 0.1,
        width: Positive = 1.0,
    ) -> None:
        super().__init__()
        unit = 2 * heads
        if whole(unit)(features) or features % unit:
            raise ParameterError("features", features, f"a multiple of 2 x heads, {unit}")
        features = max(1, round(features * width / unit)) * unit
        hidden = max(1, round(feed_forward * width))
        sizes = (features, heads, hidden, residual_dropout)
        self.embedding = nn.Embedding(vocabulary, features)
        self.encoder = nn.ModuleList(EncoderLayer(*sizes) for _ in range(layers))
        self.encoder_norm = nn.LayerNorm(features)
        self.decoder = nn.ModuleList(DecoderLayer(*sizes) for _ in range(layers))
        self.decoder_norm = nn.LayerNorm(features)
        self.dropout = nn.Dropout(residual_dropout)
        stacks = [f"{stack}.{layer}.feed_forward" for stack in ("encoder", "decoder") for layer in range(layers)]
        self.feature_places = [FeaturePlace(f"{name}.outer", f"{name}.inner", -1) for name in stacks]
        self.prunable = [name for name, module in self.named_modules() if isinstance(module, nn.Linear)]
        self._initialise()

    def _initialise(self) -> None:
        nn.init.normal_(self.embedding.weight, std=self.embedding.embedding_dim**-0.5)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Return next-token logits (N, T, vocabulary) for every position of the target.

        Args:
            source: (N, S) int64, padded at the end.
            target: (N, T) int64, starting with BEGIN, padded at the end.
        """
        return self.logits(self.decode(target, *self.encode(source)))

    def encode(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """Map source (N, S) to memory (N, S, features) and its mask (N, 1, 1, S), True where there is no padding."""
        mask = (source != PAD)[:, None, None, :]
        x = self._embed(source)
        for layer in self.encoder:
            x = layer(x, mask)
        return self.encoder_norm(x), mask

    def decode(self, target: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """Map all positions of a target (N, T) at once to (N, T, features), for `logits`."""
        x = self._embed(target)
        for layer in self.decoder:
            x = layer(x, memory, mask)
        return self.decoder_norm(x)

    def logits(self, x: Tensor) -> Tensor:
        """Map features (…, features) to logits (…, vocabulary)."""
        return F.linear(x, self.embedding.weight)

    def start(self, memory: Tensor, mask: Tensor) -> DecoderState:
        """Return the initial decoding state, with the keys and values of the source."""
        keys_values = [layer.cross_attention.keys_values(memory) for layer in self.decoder]  # type: ignore[union-attr, operator]
        return DecoderState(memory=keys_values, mask=mask, past=[None] * len(keys_values))

    def step(self, tokens: Tensor, state: DecoderState) -> Tensor:
        """Map the latest tokens (N, B) of B hypotheses per sentence to next-token logits (N, B, vocabulary).

        The tokens are added to the state. B is the same in every step.
        """
        x = self._embed(tokens, state.length)
        for i, layer in enumerate(self.decoder):
            x, state.past[i] = layer.step(x, state.past[i], state.memory[i], state.mask)  # type: ignore[operator]
        state.length += 1
        return self.logits(self.decoder_norm(x))

    def _embed(self, tokens: Tensor, position: int | None = None) -> Tensor:
        """Map tokens (N, T) at positions 0, 1, …, or all at one position, to (N, T, features)."""
        first, count = (0, tokens.shape[1]) if position is None else (position, 1)
        x = self.embedding(tokens) * math.sqrt(self.embedding.embedding_dim)
        return self.dropout(x + positions(first, count, self.embedding.embedding_dim, tokens.device))


def positions(first: int, count: int, features: int, device: torch.device) -> Tensor:
    """Return sinusoidal encodings (count, features) of positions from `first` (Vaswani et al., section 3.5).

    All sines come before all cosines, which is the paper's order up to a permutation of the features.
    """
    half = features // 2
    rates = torch.exp(torch.arange(half, device=device) * (-math.log(10_000) / half))
    angles = torch.arange(first, first + count, device=device)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], -1)
