"""Compare the Transformer with PyTorch's of the same size, and decoding with and without the cache."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from runner.benchmarks.setup import Setup, step_of
from runner.benchmarks.timing import Comparison
from runner.config.build import build
from runner.config.compose import Composer
from runner.data.token_batches import PairBatch
from runner.dropout.base import Variant
from runner.dropout.targeted import Targeted
from runner.models.transformer import BEGIN, END, PAD, Transformer, positions
from runner.tasks.decoding import greedy
from runner.tasks.translation import Translation
from runner.training.machine import autocast
from runner.training.schedules import Adam

VOCABULARY = 8000
SENTENCES, LONGEST = 160, 25  # about 4,000 target tokens including padding, as in training
DECODED, TOKENS = 32, 64


class TorchTransformer(nn.Module):
    """torch.nn.Transformer with the embeddings, positions and logits of this package's Transformer."""

    def __init__(self, ours: Transformer, heads: int, residual_dropout: float) -> None:
        super().__init__()
        features = ours.embedding.embedding_dim
        hidden = len(ours.state_dict()["encoder.0.feed_forward.inner.weight"])
        self.embedding = nn.Embedding(*ours.embedding.weight.shape)
        layer = {"nhead": heads, "dim_feedforward": hidden, "dropout": residual_dropout}
        same: dict[str, Any] = {"d_model": features, **layer, "norm_first": True, "batch_first": True}
        # The encoder is built by hand, because nn.Transformer warns that norm_first rules out its fast path.
        self.transformer = nn.Transformer(
            **same,
            custom_encoder=nn.TransformerEncoder(
                nn.TransformerEncoderLayer(**same),
                len(ours.encoder),
                nn.LayerNorm(features),
                enable_nested_tensor=False,
            ),
            num_decoder_layers=len(ours.decoder),
        )
        self.dropout = nn.Dropout(residual_dropout)

    def _embed(self, tokens: Tensor) -> Tensor:
        features = self.embedding.embedding_dim
        return self.dropout(
            self.embedding(tokens) * features**0.5 + positions(0, tokens.shape[1], features, tokens.device)
        )

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        padding = source == PAD
        causal = nn.Transformer.generate_square_subsequent_mask(target.shape[1], source.device, torch.bool)
        x = self.transformer(
            self._embed(source),
            self._embed(target),
            tgt_mask=causal,
            tgt_is_causal=True,
            src_key_padding_mask=padding,
            memory_key_padding_mask=padding,
        )
        return nn.functional.linear(x, self.embedding.weight)


def random_pairs(seed: int = 0) -> PairBatch:
    """Return random sentence pairs of various lengths, at most LONGEST including END."""
    generator = torch.Generator().manual_seed(seed)
    sides = []
    for _ in range(2):
        tokens = torch.randint(END + 1, VOCABULARY, (SENTENCES, LONGEST), generator=generator)
        lengths = torch.randint(LONGEST // 2, LONGEST, (SENTENCES, 1), generator=generator)
        lengths[0] = LONGEST - 1
        places = torch.arange(LONGEST)
        sides.append(tokens.where(places < lengths, PAD).where(places != lengths, END))
    begin = torch.full((SENTENCES, 1), BEGIN)
    return PairBatch(sides[0], torch.cat([begin, sides[1]], 1))


def transformer(setup: Setup) -> Iterator[Comparison]:
    """Compare the training speed with that of PyTorch's Transformer, and steps with and without `targeted`."""
    parts = setup.parts()
    batch = random_pairs().to(parts.device)
    tokens = float((batch.target[:, 1:] != PAD).sum())

    def training(model: nn.Module, variant: Variant) -> Callable[[], object]:
        return step_of(parts, model, variant, Translation(), Adam(), batch, int(tokens))

    ours, heads, dropout = model_of("model=transformer")
    yield Comparison(
        "training a Transformer",
        "torch.nn.Transformer",
        training(ours, Variant()),
        training(TorchTransformer(ours, heads, dropout), Variant()),
        target=1.0,
        higher_is_better=True,
        work=(tokens, tokens),
        unit="tokens",
    )
    yield Comparison(
        "Transformer step, targeted",
        "step, none",
        training(model_of("model=transformer")[0], Targeted()),
        training(model_of("model=transformer")[0], Variant()),
        target=1.08,
    )


def decoding(setup: Setup) -> Iterator[Comparison]:
    """Compare the base model's greedy decoding of 64 new tokens for 32 sentences with and without the cache."""
    parts = setup.parts()
    model = model_of("model=transformer_base")[0].to(parts.device).eval()
    with torch.no_grad():
        model.embedding.weight[END] = 0  # so its logit is 0, which is never the largest, and no sentence ends
    source = random_pairs().source[:DECODED].to(parts.device)

    def decode(cache: bool) -> None:
        with autocast(parts.precision, parts.device):
            found = greedy(model, source, TOKENS, cache=cache)
        assert found.shape == (DECODED, TOKENS)

    tokens = float(DECODED * TOKENS)
    yield Comparison(
        "decoding with cache",
        "without",
        lambda: decode(True),
        lambda: decode(False),
        target=5.0,
        higher_is_better=True,
        work=(tokens, tokens),
        unit="tokens",
    )


def model_of(choice: str) -> tuple[Transformer, int, float]:
    """Return the model for a choice, its number of heads and its residual dropout rate."""
    config = Composer("train").single([choice])
    torch.manual_seed(0)
    model = build(config, "model", vocabulary=VOCABULARY)
    return model, config["model"]["heads"], config["model"]["residual_dropout"]
