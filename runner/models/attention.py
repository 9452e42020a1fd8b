"""Multi-head attention and the Transformer layers that use it (Vaswani et al. 2017, pre-norm)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KeysValues = tuple[Tensor, Tensor]  # each (N, heads, positions, features per head)
Rotation = tuple[Tensor, Tensor]  # cosines and sines, each (positions, half the features per head)


def rotation(first: int, positions: int, features: int, device: torch.device, base: float = 10000.0) -> Rotation:
    """Return cosines and sines of the angles by which `rotated` rotates queries and keys.

    The angle of pair i is position · base^(−2i / features).

    Args:
        first: the first of `positions` consecutive positions.
        features: features per head, an even number.
    """
    # In single precision whatever autocast says, because bf16 can't represent all integers above 256.
    places = torch.arange(first, first + positions, device=device, dtype=torch.float32)
    speeds = base ** (-torch.arange(0, features, 2, device=device, dtype=torch.float32) / features)
    angles = places[:, None] * speeds
    return angles.cos(), angles.sin()


def rotated(x: Tensor, turn: Rotation) -> Tensor:
    """Apply rotary positions (Su et al. 2021, section 3.2) to queries or keys (N, heads, T, features per head).

    Each pair of features is rotated by an angle that grows with the position, so that the product of a query and a key
    depends on their distance. Features i and i + half form a pair, as in most implementations. In the paper, pairs are
    adjacent, which is another order of the same features.
    """
    cosines, sines = turn
    first, second = x.chunk(2, -1)
    y = torch.cat([first * cosines - second * sines, second * cosines + first * sines], -1)
    return y.to(x.dtype)


@dataclass(kw_only=True)
class Cache:
    """Cached keys and values of earlier tokens, so that decoding computes each position only once."""

    past: list[KeysValues | None]  # for each layer's self-attention; None at the first step
    length: int = 0  # number of positions so far

    def select(self, rows: Tensor) -> None:
        """Keep the sequences at indices `rows` of the first dimension."""
        self.past = [kv and (kv[0].index_select(0, rows), kv[1].index_select(0, rows)) for kv in self.past]


class Attention(nn.Module):
    """Multi-head scaled dot-product attention.

    Each projection is a separate layer. Those of queries, keys and values have an attribute `matrices`, the number of
    heads: their weight consists of that many matrices, stacked along dim 0, because "each head of each of the inputs
    has its own matrix" (the paper, on the Transformer).
    """

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(features, features)
        self.key = nn.Linear(features, features)
        self.value = nn.Linear(features, features)
        self.output = nn.Linear(features, features)
        for projection in (self.query, self.key, self.value):
            projection.matrices = heads  # type: ignore[assignment]

    def keys_values(self, memory: Tensor, turn: Rotation | None = None) -> KeysValues:
        """Return keys and values of memory (N, S, features); keys are rotated if `turn` is given."""
        keys = self._split(self.key(memory))
        return keys if turn is None else rotated(keys, turn), self._split(self.value(memory))

    def forward(
        self,
        x: Tensor,
        keys_values: KeysValues,
        mask: Tensor | None = None,
        causal: bool = False,
        turn: Rotation | None = None,
    ) -> Tensor:
        """Attend from x (N, T, features) to keys and values, and return (N, T, features).

        Args:
            mask: bool, broadcastable to (N, heads, T, S); True may be attended to.
            causal: whether each position attends only to itself and to earlier ones.
            turn: rotation of the queries.
        """
        queries = self._split(self.query(x))
        queries = queries if turn is None else rotated(queries, turn)
        y = _attend(queries, *keys_values, mask, causal)
        return self.output(y.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def _attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """Compute fused attention, in single precision on the CPU if gradients may be needed.

    On the CPU, the backward pass in bf16 takes three to four times as long, for sentences of 25 to 100 tokens.
    """
    if queries.device.type == "cpu" and torch.is_grad_enabled():
        with torch.autocast("cpu", enabled=False):
            queries, keys, values = queries.float(), keys.float(), values.float()
            return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, is_causal=causal)
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, is_causal=causal)


class FeedForward(nn.Module):
    """Two linear layers with an activation between them, applied to every position."""

    def __init__(self, features: int, hidden: int, activation: Callable[[Tensor], Tensor] = F.relu) -> None:
        super().__init__()
        self.inner = nn.Linear(features, hidden)
        self.outer = nn.Linear(hidden, features)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(self.activation(self.inner(x)))


class _Sublayers(nn.Module):
    """Base class with the sublayers that all layers share, x + dropout(sublayer(LayerNorm(x)))."""

    attention: Attention
    feed_forward: FeedForward
    attention_norm: nn.LayerNorm
    feed_forward_norm: nn.LayerNorm
    dropout: nn.Dropout

    def _attend(
        self, x: Tensor, mask: Tensor | None = None, causal: bool = False, turn: Rotation | None = None
    ) -> Tensor:
        y = self.attention_norm(x)
        return x + self.dropout(self.attention(y, self.attention.keys_values(y, turn), mask, causal, turn))

    def _attend_with_past(
        self, x: Tensor, past: KeysValues | None, turn: Rotation | None = None
    ) -> tuple[Tensor, KeysValues]:
        """Apply causal self-attention to the next positions (N, T, features), where T must be 1 if there is a past."""
        y = self.attention_norm(x)
        present = self.attention.keys_values(y, turn)
        if past is not None:
            present = torch.cat([past[0], present[0]], 2), torch.cat([past[1], present[1]], 2)
        causal = x.shape[1] > 1
        return x + self.dropout(self.attention(y, present, causal=causal, turn=turn)), present

    def _feed(self, x: Tensor) -> Tensor:
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class _SelfAttending(_Sublayers):
    """Base class of layers that attend only to their own sequence."""

    def __init__(
        self,
        features: int,
        heads: int,
        hidden: int,
        dropout: float,
        activation: Callable[[Tensor], Tensor] = F.relu,
    ) -> None:
        super().__init__()
        self.attention = Attention(features, heads)
        self.feed_forward = FeedForward(features, hidden, activation)
        self.attention_norm = nn.LayerNorm(features)
        self.feed_forward_norm = nn.LayerNorm(features)
        self.dropout = nn.Dropout(dropout)


class EncoderLayer(_SelfAttending):
    """An encoder layer: self-attention and feed-forward."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map x (N, S, features), with mask (N, 1, 1, S), to (N, S, features)."""
        return self._feed(self._attend(x, mask))


class CausalLayer(_SelfAttending):
    """A layer of a decoder-only Transformer: causal self-attention and feed-forward."""

    def forward(self, x: Tensor, turn: Rotation | None = None) -> Tensor:
        """Map all positions at once, from (N, T, features) to (N, T, features); `turn` rotates queries and keys."""
        return self._feed(self._attend(x, causal=True, turn=turn))

    def step(self, x: Tensor, past: KeysValues | None, turn: Rotation | None = None) -> tuple[Tensor, KeysValues]:
        """Process the next positions (N, T, features): any number if there is no past, otherwise T = 1.

        Args:
            turn: rotation of the queries and keys of these positions; those of the past are already rotated.

        Returns:
            (N, T, features), and the past for the next position.
        """
        x, present = self._attend_with_past(x, past, turn)
        return self._feed(x), present


class DecoderLayer(_Sublayers):
    """A decoder layer: causal self-attention, attention to the encoder's output, and feed-forward."""

    def __init__(self, features: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(features, heads)
        self.cross_attention = Attention(features, heads)
        self.feed_forward = FeedForward(features, hidden)
        self.attention_norm = nn.LayerNorm(features)
        self.cross_attention_norm = nn.LayerNorm(features)
        self.feed_forward_norm = nn.LayerNorm(features)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """Map all positions (N, T, features) at once, given memory (N, S, features) and mask (N, 1, 1, S)."""
        x = self._attend(x, causal=True)
        return self._read_memory(x, self.cross_attention.keys_values(memory), mask)

    def step(self, x: Tensor, past: KeysValues | None, memory: KeysValues, mask: Tensor) -> tuple[Tensor, KeysValues]:
        """Process the next position of B hypotheses for each sentence.

        Attention to the encoder's output treats hypotheses like positions in training, so its keys and values are kept
        only once per sentence. Only self-attention distinguishes hypotheses.

        Args:
            x: (N, B, features).
            past: keys and values of the earlier positions, (N·B, heads, positions, …); None at the first position.
            memory: `cross_attention.keys_values` of the encoder's output.

        Returns:
            (N, B, features), and the past for the next position.
        """
        y, present = self._attend_with_past(x.flatten(0, 1).unsqueeze(1), past)
        return self._read_memory(y.view(x.shape), memory, mask), present

    def _read_memory(self, x: Tensor, memory: KeysValues, mask: Tensor) -> Tensor:
        x = x + self.dropout(self.cross_attention(self.cross_attention_norm(x), memory, mask))
        return self._feed(x)
