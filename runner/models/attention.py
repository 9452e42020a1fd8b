"""Multi-head attention, and the layers of a Transformer that are made of it (Vaswani et al. 2017, pre-norm)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KeysValues = tuple[Tensor, Tensor]  # each (N, heads, positions, features of a head)
Rotation = tuple[Tensor, Tensor]  # cosines and sines, (positions, half the features of a head) each


def rotation(first: int, positions: int, features: int, device: torch.device, base: float = 10000.0) -> Rotation:
    """The angles by which `rotated` turns queries and keys: position · base^(−2i / features) for the pair i.

    Args:
        first: the position of the first of so many `positions`.
        features: of a head, an even number.
    """
    # In single precision whatever autocast says: bf16 has no whole numbers beyond 256.
    places = torch.arange(first, first + positions, device=device, dtype=torch.float32)
    speeds = base ** (-torch.arange(0, features, 2, device=device, dtype=torch.float32) / features)
    angles = places[:, None] * speeds
    return angles.cos(), angles.sin()


def rotated(x: Tensor, turn: Rotation) -> Tensor:
    """Queries or keys (N, heads, T, features of a head) with rotary positions (Su et al. 2021, section 3.2).

    Each pair of features is turned by an angle that grows with the position, so that the product of a query and a key
    depends on how far apart they are. A pair are the features i and i + half, as in most implementations; the paper's
    are neighbours, which is another order of the same features.
    """
    cosines, sines = turn
    first, second = x.chunk(2, -1)
    y = torch.cat([first * cosines - second * sines, second * cosines + first * sines], -1)
    return y.to(x.dtype)


@dataclass(kw_only=True)
class Cache:
    """Keys and values of the tokens so far, so that decoding computes each position once."""

    past: list[KeysValues | None]  # of each layer's self-attention; None at the first step
    length: int = 0  # positions so far

    def select(self, rows: Tensor) -> None:
        """Go on with the sequences `rows`, indices into the first dimension of the keys."""
        self.past = [kv and (kv[0].index_select(0, rows), kv[1].index_select(0, rows)) for kv in self.past]


class Attention(nn.Module):
    """Scaled dot-product attention of several heads.

    Each projection is a layer of its own. Those of queries, keys and values carry `matrices`, the number of heads: the
    weight is so many matrices, one above the other along dim 0, because "each head of each of the inputs has its own
    matrix" (the paper, on the Transformer).
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
        """What can be attended to in memory (N, S, features), keys rotated where `turn` is given."""
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
        """x (N, T, features) → what each of its positions reads, (N, T, features).

        Args:
            mask: bool, broadcast to (N, heads, T, S); True may be attended to.
            causal: each position attends to itself and to earlier ones.
            turn: rotates the queries.
        """
        queries = self._split(self.query(x))
        queries = queries if turn is None else rotated(queries, turn)
        y = _attend(queries, *keys_values, mask, causal)
        return self.output(y.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def _attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """The fused attention; on processors in single precision where gradients will be asked for.

    Its backward pass takes three to four times as long there in bf16, for sentences of 25 to 100 tokens.
    """
    if queries.device.type == "cpu" and torch.is_grad_enabled():
        with torch.autocast("cpu", enabled=False):
            queries, keys, values = queries.float(), keys.float(), values.float()
            return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, is_causal=causal)
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, is_causal=causal)


class FeedForward(nn.Module):
    """Linear, an activation, linear, on every position."""

    def __init__(self, features: int, hidden: int, activation: Callable[[Tensor], Tensor] = F.relu) -> None:
        super().__init__()
        self.inner = nn.Linear(features, hidden)
        self.outer = nn.Linear(hidden, features)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(self.activation(self.inner(x)))


class _Sublayers(nn.Module):
    """The sublayers that all layers have, each x + dropout(sublayer(LayerNorm(x)))."""

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
        """Causal self-attention of the next positions, x (N, T, features): any number at first, then one at a time."""
        y = self.attention_norm(x)
        present = self.attention.keys_values(y, turn)
        if past is not None:
            present = torch.cat([past[0], present[0]], 2), torch.cat([past[1], present[1]], 2)
        causal = x.shape[1] > 1
        return x + self.dropout(self.attention(y, present, causal=causal, turn=turn)), present

    def _feed(self, x: Tensor) -> Tensor:
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class _SelfAttending(_Sublayers):
    """The sublayers of a layer that attends to its own sequence only."""

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
    """Self-attention and feed-forward."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (N, S, features), mask (N, 1, 1, S) → (N, S, features)."""
        return self._feed(self._attend(x, mask))


class CausalLayer(_SelfAttending):
    """Causal self-attention and feed-forward: a layer of a decoder-only Transformer."""

    def forward(self, x: Tensor, turn: Rotation | None = None) -> Tensor:
        """All positions at once, (N, T, features) → (N, T, features); `turn` rotates queries and keys."""
        return self._feed(self._attend(x, causal=True, turn=turn))

    def step(self, x: Tensor, past: KeysValues | None, turn: Rotation | None = None) -> tuple[Tensor, KeysValues]:
        """The next positions, (N, T, features): any number where there is no past, else T = 1.

        Args:
            turn: rotates the queries and keys of these positions; those of the past are rotated already.

        Returns:
            (N, T, features), and the past of the position after.
        """
        x, present = self._attend_with_past(x, past, turn)
        return self._feed(x), present


class DecoderLayer(_Sublayers):
    """Causal self-attention, attention to the encoder's output, feed-forward."""

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
        """All positions at once: x (N, T, features), memory (N, S, features), mask (N, 1, 1, S) → (N, T, features)."""
        x = self._attend(x, causal=True)
        return self._read_memory(x, self.cross_attention.keys_values(memory), mask)

    def step(self, x: Tensor, past: KeysValues | None, memory: KeysValues, mask: Tensor) -> tuple[Tensor, KeysValues]:
        """The next position of B hypotheses for each sentence.

        To the encoder's output the hypotheses are what positions are in training, so its keys and values are there
        once for a sentence; only self-attention tells hypotheses apart.

        Args:
            x: (N, B, features).
            past: keys and values of the positions before, (N·B, heads, positions, …); None at the first.
            memory: `cross_attention.keys_values` of the encoder's output.

        Returns:
            (N, B, features), and the past of the position after.
        """
        y, present = self._attend_with_past(x.flatten(0, 1).unsqueeze(1), past)
        return self._read_memory(y.view(x.shape), memory, mask), present

    def _read_memory(self, x: Tensor, memory: KeysValues, mask: Tensor) -> Tensor:
        x = x + self.dropout(self.cross_attention(self.cross_attention_norm(x), memory, mask))
        return self._feed(x)
