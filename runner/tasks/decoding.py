"""Batched decoding: greedy and beam search with an encoder–decoder, and sampling from a language model.

Greedy and beam search never generate padding or BEGIN, whose indices are below that of END.
"""

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils import parametrize

from runner.models.transformer import BEGIN, END, PAD


class EncoderDecoder(Protocol):
    """The interface of models for decoding; see `runner.models.transformer.Transformer`."""

    def encode(self, source: Tensor) -> tuple[Tensor, Tensor]: ...

    def decode(self, target: Tensor, memory: Tensor, mask: Tensor) -> Tensor: ...

    def logits(self, x: Tensor) -> Tensor: ...

    def start(self, memory: Tensor, mask: Tensor) -> Any: ...

    def step(self, tokens: Tensor, state: Any) -> Tensor: ...


# A dropout variant may recompute each weight whenever it is read; caching computes it once per call.
@torch.no_grad()
@parametrize.cached()
def greedy(model: EncoderDecoder, source: Tensor, limit: int | Tensor, cache: bool = True) -> Tensor:
    """Decode with the most probable token at every step.

    Args:
        model: the model, in evaluation mode.
        source: int64 tensor of shape (N, S), padded at the end.
        limit: maximum number of tokens per sentence including END: one number, or one per sentence (N,).
        cache: False recomputes all earlier positions at every step, for measurements.

    Returns:
        int64 tensor of shape (N, T), T <= limit, without BEGIN and padded after END. A sentence that is cut at its
        limit has no END.
    """
    limits = _limits(limit, source)
    memory, mask = model.encode(source)
    state = model.start(memory, mask) if cache else None
    tokens = source.new_full((len(source), 1), BEGIN)
    running = limits > 0
    for length in range(1, _longest(limits) + 1):
        if cache:
            logits = model.step(tokens[:, -1:], state)[:, 0]
        else:
            logits = model.logits(model.decode(tokens, memory, mask)[:, -1])
        latest = (logits[:, END:].argmax(-1) + END).where(running, PAD)
        tokens = torch.cat([tokens, latest[:, None]], 1)
        running &= (latest != END) & (limits > length)
        if not running.any():
            break
    return tokens[:, 1:]


@torch.no_grad()
@parametrize.cached()
def beam_search(model: EncoderDecoder, source: Tensor, beam: int, length_penalty: float, limit: int | Tensor) -> Tensor:
    """Decode by beam search.

    The best sentence is the one with the largest log-probability / ((5 + length) / 6)^length_penalty (Wu et al. 2016,
    equation 14, without coverage), where the length includes END. A hypothesis ends if its END is among the `beam` best
    continuations of all hypotheses. The search for a sentence stops when no running hypothesis can become better than
    the best one that has ended.

    Args:
        model: the model, in evaluation mode.
        source: int64 tensor of shape (N, S), padded at the end.
        beam: number of hypotheses per sentence, at least 1.
        length_penalty: at least 0; larger values favour longer sentences.
        limit: as in `greedy`. If no hypothesis has ended at the limit, the most probable running one is returned
            without END.

    Returns:
        The same as `greedy`.
    """
    limits = _limits(limit, source)
    search = _Search.begin(source, beam, length_penalty, limits)
    state = model.start(*model.encode(source))
    while not search.done.all():
        log_probabilities = F.log_softmax(model.step(search.tokens, state).float(), -1)
        state.select(search.extend(log_probabilities))
    return search.best[:, : search.length]


@torch.no_grad()
@parametrize.cached()
def continued(
    model: Any, prompts: Tensor, count: int, temperature: float, generator: torch.Generator, cache: bool = True
) -> Tensor:
    """Sample continuations of prompts from a language model.

    Args:
        model: the model, in evaluation mode; see `runner.models.gpt.GPT`. The cache needs its methods `start` and
            `step`.
        prompts: int64 tensor of shape (N, T).
        count: number of tokens to add.
        temperature: divides the logits before a token is drawn; 0 chooses the most probable token.
        generator: a random number generator on the CPU.
        cache: False recomputes all earlier positions at every step, for measurements.

    Returns:
        int64 tensor of shape (N, count), without the prompts.
    """
    tokens = prompts
    state = model.start() if cache and hasattr(model, "start") else None
    for added in range(count):
        seen = tokens if state is None or not added else tokens[:, -1:]
        logits = (model(seen) if state is None else model.step(seen, state))[:, -1]
        if temperature:
            probabilities = F.softmax(logits.float() / temperature, -1).cpu()
            latest = torch.multinomial(probabilities, 1, generator=generator).to(prompts.device)
        else:
            latest = logits.argmax(-1, keepdim=True)
        tokens = torch.cat([tokens, latest], 1)
    return tokens[:, prompts.shape[1] :]


@dataclass
class _Search:
    """The B hypotheses of each of N sentences, best first, and the best ended hypothesis of each sentence."""

    tokens: Tensor  # (N, B), the latest tokens
    scores: Tensor  # (N, B), log-probabilities; -inf if there is no hypothesis
    history: Tensor  # (N, B, longest), all tokens
    best: Tensor  # (N, longest), the best ended hypotheses
    best_values: Tensor  # (N,), log-probability divided by the length penalty; -inf if none has ended
    done: Tensor  # (N,)
    limits: Tensor  # (N,)
    length_penalty: float
    length: int = 0

    @classmethod
    def begin(cls, source: Tensor, beam: int, length_penalty: float, limits: Tensor) -> "_Search":
        longest = _longest(limits)
        scores = torch.full((len(source), beam), -math.inf, device=source.device)
        scores[:, 0] = 0  # all hypotheses are the same at first, so begin with one
        return cls(
            tokens=source.new_full((len(source), beam), BEGIN),
            scores=scores,
            history=source.new_full((len(source), beam, longest), PAD),
            best=source.new_full((len(source), longest), PAD),
            best_values=torch.full_like(scores[:, 0], -math.inf),
            done=limits <= 0,
            limits=limits,
            length_penalty=length_penalty,
        )

    def extend(self, log_probabilities: Tensor) -> Tensor:
        """Extend the hypotheses by one token, given log-probabilities (N, B, vocabulary).

        Returns:
            (N·B,) indices into the N·B previous hypotheses: the one that each new hypothesis extends.
        """
        log_probabilities = log_probabilities[:, :, END:]
        beam, choices = log_probabilities.shape[1:]
        self.length += 1
        # Each hypothesis has only one continuation that ends, so at least `beam` of the best 2 * beam don't.
        scores, index = (self.scores[:, :, None] + log_probabilities).flatten(1).topk(2 * beam)
        parents, tokens = index // choices, index % choices + END
        ended = tokens == END
        self._keep_best(scores[:, :beam].masked_fill(~ended[:, :beam], -math.inf), parents)
        running = ended.int().argsort(dim=1, stable=True)[:, :beam]
        parents = parents.gather(1, running)
        self.scores, self.tokens = scores.gather(1, running), tokens.gather(1, running)
        self.history = self.history.gather(1, parents[:, :, None].expand_as(self.history))
        self.history[:, :, self.length - 1] = self.tokens
        self._finish()
        first = torch.arange(0, parents.numel(), beam, device=parents.device)
        return (parents + first[:, None]).flatten()

    def _keep_best(self, ended_scores: Tensor, parents: Tensor) -> None:
        score, which = ended_scores.max(1)
        value = score / self._penalty(self.limits.new_tensor(self.length))
        parent = parents.gather(1, which[:, None])
        sentences = self.history.take_along_dim(parent[:, :, None], 1)[:, 0]
        sentences[:, self.length - 1] = END
        self._replace(~self.done & (value > self.best_values), sentences)
        self.best_values = torch.where(self.done, self.best_values, self.best_values.maximum(value))

    def _finish(self) -> None:
        at_limit = self.limits <= self.length
        self._replace(~self.done & at_limit & self.best_values.isneginf(), self.history[:, 0])
        # Log-probabilities never increase, and the length penalty is largest at the limit.
        reachable = self.scores[:, 0] / self._penalty(self.limits)
        self.done = self.done | at_limit | (self.best_values >= reachable)

    def _replace(self, which: Tensor, sentences: Tensor) -> None:
        self.best = torch.where(which[:, None], sentences, self.best)

    def _penalty(self, lengths: Tensor) -> Tensor:
        return ((5 + lengths) / 6) ** self.length_penalty


def _limits(limit: int | Tensor, source: Tensor) -> Tensor:
    return torch.as_tensor(limit, device=source.device).expand(len(source))


def _longest(limits: Tensor) -> int:
    return max(0, int(limits.max())) if len(limits) else 0
