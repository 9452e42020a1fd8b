"""Language modelling: the cross-entropy of the next token as loss; bits per byte and perplexity as metrics."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runner.parameters import Count, CountFrom0, NotNegative, checked
from runner.tasks.decoding import continued
from runner.tasks.metrics import BITS_PER_BYTE, PERPLEXITY, TOKEN_ACCURACY, Metric

Batch = Sequence[Any]  # inputs, targets and bytes of targets, each (N, T); see TextBatch for evaluation


class LanguageModelling:
    """Language modelling on windows of text. Examples are predicted tokens.

    Bits per byte are the total loss of all predicted tokens in bits divided by their length in UTF-8 bytes, so that
    models of characters, bytes and subwords can be compared. This isn't possible with perplexity, i.e. the
    exponential of the mean loss per token.

    Args:
        samples: number of generated continuations to show per split.
        prompt: number of tokens per prompt.
        longer: maximum number of tokens to generate after a prompt; the model's context may limit it further.
        temperature: sampling temperature; 0 chooses the most probable token.
    """

    kind = "text"
    example_unit = "tok"  # unit of the progress bar
    headline = "bits_per_byte"
    metrics: tuple[Metric, ...] = (BITS_PER_BYTE, TOKEN_ACCURACY)
    sweep_metrics: tuple[Metric, ...] = (BITS_PER_BYTE, PERPLEXITY, TOKEN_ACCURACY)

    @checked
    def __init__(
        self, samples: CountFrom0 = 3, prompt: Count = 32, longer: Count = 96, temperature: NotNegative = 0.8
    ) -> None:
        self.samples = samples
        self.prompt = prompt
        self.longer = longer
        self.temperature = temperature

    def training_loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor], int]:
        """Return the mean loss per token, the sums of its metrics over tokens, and the number of tokens."""
        logits, labels = _next_tokens(model, batch)
        loss = F.cross_entropy(logits, labels)
        count = len(labels)
        bits = loss.detach() * count / (math.log(2) * batch[2].sum())
        return loss, {"bits_per_byte": bits * count, "token_accuracy": _right(logits.detach(), labels)}, count

    @torch.no_grad()
    def validate(self, model: nn.Module, batches: Iterable[Batch]) -> dict[str, float]:
        """Return bits per byte, the token accuracy, the mean loss per token, and the number of tokens."""
        loss, right, count, size = 0.0, 0, 0, 0
        for batch in batches:
            logits, labels = _next_tokens(model, batch)
            loss += float(F.cross_entropy(logits, labels, reduction="sum"))
            right += int(_right(logits, labels))
            count += len(labels)
            size += int(batch[2].sum())
        return {
            "bits_per_byte": loss / (math.log(2) * size),
            "token_accuracy": right / count,
            "loss": loss / count,
            "examples": count,
        }

    def evaluate(self, model: nn.Module, batches: Iterable[Batch]) -> dict[str, Any]:
        """Return the results of `validate`, the perplexity, and generated continuations as `samples`."""
        known = list(batches)
        found = self.validate(model, known)
        perplexity = math.exp(min(found["loss"], 700.0))  # a larger exponent would overflow
        return {**found, "perplexity": perplexity, "samples": self._shown(model, known)}

    def _shown(self, model: nn.Module, batches: Sequence[Any]) -> list[list[str]]:
        """Return generated continuations of windows that are evenly spaced over the split.

        The prompts and random numbers are the same for every network.
        """
        whole = [row for batch in batches for row in batch[0] if len(row) == batches[0][0].shape[1]]
        count = min(self.samples, len(whole))
        if not count:
            return []
        prompts = torch.stack([whole[i * len(whole) // count][: self.prompt] for i in range(count)])
        context = getattr(model, "context", None)
        room = self.longer if context is None else int(context) - prompts.shape[1]
        generator = torch.Generator().manual_seed(0)  # on the CPU, so that samples do not depend on the device
        added = continued(model, prompts, max(0, min(self.longer, room)), self.temperature, generator)
        decode: Callable[[Sequence[int]], str] = batches[0].decode
        texts = ([decode(ids) for ids in part.tolist()] for part in (prompts, added))
        return [[f"prompt {prompt!r}", f"output {output!r}"] for prompt, output in zip(*texts, strict=True)]


def _next_tokens(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return logits (N·T, vocabulary) in float32 and labels (N·T,)."""
    return model(batch[0]).flatten(0, 1).float(), batch[1].flatten()


def _right(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.argmax(1) == labels).sum()
