"""Compare GPT with a plain implementation of the same model, and decoding with and without the cache."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runner.benchmarks.setup import Setup, step_of
from runner.benchmarks.timing import Comparison
from runner.dropout.base import Variant
from runner.models.gpt import GPT
from runner.tasks.decoding import continued
from runner.tasks.language_modelling import LanguageModelling
from runner.training.machine import autocast
from runner.training.schedules import Adam

VOCABULARY, CONTEXT, WINDOWS = 65, 128, 32  # characters, as in training
LAYERS, FEATURES, HEADS = 4, 128, 4
DECODED = 16


class PlainGPT(nn.Module):
    """A minimal implementation of GPT-2's network, with one matrix for queries, keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, FEATURES)
        self.positions = nn.Embedding(CONTEXT, FEATURES)
        self.blocks = nn.ModuleList(_Block() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(FEATURES)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.blocks:
            x = block(x)
        return self.norm(x) @ self.tokens.weight.T


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(FEATURES), nn.LayerNorm(FEATURES)
        self.qkv, self.out = nn.Linear(FEATURES, 3 * FEATURES), nn.Linear(FEATURES, FEATURES)
        self.up, self.down = nn.Linear(FEATURES, 4 * FEATURES), nn.Linear(4 * FEATURES, FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        n, t, features = x.shape
        q, k, v = (
            part.view(n, t, HEADS, features // HEADS).transpose(1, 2)
            for part in self.qkv(self.norm1(x)).split(features, dim=2)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(n, t, features))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


def language(setup: Setup) -> Iterator[Comparison]:
    """Compare the training speed with that of the plain model, and decoding with and without the cache."""
    parts = setup.parts()
    device, precision = parts.device, parts.precision
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(VOCABULARY, (WINDOWS, CONTEXT + 1), generator=generator).to(device)
    batch = (ids[:, :-1], ids[:, 1:], torch.ones_like(ids[:, 1:]))
    ours = GPT(VOCABULARY, CONTEXT, LAYERS, FEATURES, HEADS, 4 * FEATURES).to(device)
    tokens = float(batch[1].numel())
    schedule = Adam(weight_decay=0.1, decoupled=True, clip_norm=1.0)
    yield Comparison(
        "training a GPT",
        "the same written plainly",
        step_of(parts, ours, Variant(), LanguageModelling(), schedule, batch, int(tokens)),
        plain_step(PlainGPT().to(device), batch[0], batch[1], precision),
        target=1.0,
        higher_is_better=True,
        work=(tokens, tokens),
        unit="tokens",
    )
    ours.eval()
    prompts = ids[:DECODED, :1]

    def decode(cache: bool) -> None:
        with autocast(precision, device):
            continued(ours, prompts, CONTEXT - 1, 0.0, generator, cache)

    work = float(DECODED * (CONTEXT - 1))
    yield Comparison(
        "decoding text with cache",
        "without",
        lambda: decode(True),
        lambda: decode(False),
        target=2.0,
        higher_is_better=True,
        work=(work, work),
        unit="tokens",
    )


def plain_step(model: nn.Module, inputs: Tensor, targets: Tensor, precision: str) -> Callable[[], object]:
    """Return a minimal training step: AdamW with gradients clipped to norm 1."""
    matrices = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.dim() == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-12)

    def step() -> None:
        with autocast(precision, inputs.device):
            logits = model(inputs)
            loss = F.cross_entropy(logits.view(-1, VOCABULARY).float(), targets.reshape(-1))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step
