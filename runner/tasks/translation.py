"""Translation: label-smoothed cross-entropy as loss; BLEU, exact match and token accuracy as metrics."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runner.data.token_batches import PairBatch
from runner.extras import need
from runner.models.transformer import PAD
from runner.parameters import BelowOne, Count, CountFrom0, NotNegative, checked
from runner.tasks.decoding import beam_search, greedy
from runner.tasks.metrics import BLEU, BLEU_UNCASED, EXACT_MATCH, TOKEN_ACCURACY, Metric


class Translation:
    """Sentence-level translation.

    Examples are target tokens, including the END of a sentence. During training, only the loss and the accuracy of the
    next token are measured. The sweep translates every sentence.

    Args:
        label_smoothing: label smoothing of the training loss, in [0, 1). Validation and test losses do not include it.
        beam: number of hypotheses per sentence; 1 is greedy search.
        length_penalty: length penalty of beam search (Wu et al., 2016, equation 14); 0 for none.
        longer: maximum number of tokens by which a translation may exceed its source.
        samples: number of sentences to show per split.
    """

    kind = "pairs"
    example_unit = "tok"  # unit of the progress bar
    headline = "bleu"
    metrics: tuple[Metric, ...] = (TOKEN_ACCURACY,)
    sweep_metrics: tuple[Metric, ...] = (BLEU, BLEU_UNCASED, EXACT_MATCH, TOKEN_ACCURACY)

    @checked
    def __init__(
        self,
        label_smoothing: BelowOne = 0.1,
        beam: Count = 1,
        length_penalty: NotNegative = 0.6,
        longer: CountFrom0 = 50,
        samples: CountFrom0 = 8,
    ) -> None:
        self.label_smoothing = label_smoothing
        self.beam = beam
        self.length_penalty = length_penalty
        self.longer = longer
        self.samples = samples
        bleu = need("task=translation", "sacrebleu", "text").BLEU
        self._bleu = {"bleu": bleu(), "bleu_uncased": bleu(lowercase=True)}

    @property
    def signatures(self) -> dict[str, str]:
        """The sacrebleu signature of each metric."""
        for metric in self._bleu.values():
            metric.corpus_score(["one"], [["one"]])  # the signature has the number of references
        return {name: str(metric.get_signature()) for name, metric in self._bleu.items()}

    def training_loss(self, model: nn.Module, batch: PairBatch) -> tuple[Tensor, dict[str, Tensor], int]:
        """Return the mean loss per token, the sums of its metrics over tokens, and the number of tokens."""
        logits, labels = _next_tokens(model, batch)
        loss = F.cross_entropy(logits, labels, ignore_index=PAD, label_smoothing=self.label_smoothing)
        return loss, {"token_accuracy": _right(logits.detach(), labels)}, _tokens(batch)

    @torch.no_grad()
    def validate(self, model: nn.Module, batches: Iterable[PairBatch]) -> dict[str, float]:
        """Return the mean loss per token, the token accuracy given the correct prefix, and the number of tokens."""
        loss, right, tokens = 0.0, 0, 0
        for batch in batches:
            logits, labels = _next_tokens(model, batch)
            loss += float(F.cross_entropy(logits, labels, ignore_index=PAD, reduction="sum"))
            right += int(_right(logits, labels))
            tokens += _tokens(batch)
        return {"token_accuracy": right / tokens, "loss": loss / tokens, "examples": tokens}

    def evaluate(self, model: nn.Module, batches: Iterable[PairBatch]) -> dict[str, Any]:
        """Return the results of `validate` and the metrics of whole translations.

        The latter are sacrebleu's corpus BLEU (0 to 100), cased and uncased, and the fraction of translations that are
        identical to the reference. Example translations are returned as `samples`.
        """
        known = list(batches)
        outputs = [sentence for batch in known for sentence in self.translate(model, batch)]
        references = [reference for batch in known for reference in batch.references]
        sources = [source for batch in known for source in batch.sources]
        exact = sum(output == reference for output, reference in zip(outputs, references, strict=True))
        return {
            **{name: metric.corpus_score(outputs, [references]).score for name, metric in self._bleu.items()},
            "exact_match": exact / len(references),
            **self.validate(model, known),
            "samples": self._shown(sources, references, outputs),
        }

    def translate(self, model: Any, batch: PairBatch) -> list[str]:
        """Translate the source sentences of a batch; the model must be in evaluation mode."""
        limit = (batch.source != PAD).sum(1) + self.longer
        if self.beam == 1:
            found = greedy(model, batch.source, limit)
        else:
            found = beam_search(model, batch.source, self.beam, self.length_penalty, limit)
        assert batch.decode is not None
        return [batch.decode(ids) for ids in found.tolist()]

    def _shown(self, *texts: Sequence[str]) -> list[list[str]]:
        """Return the source, reference and output of sentences that are evenly spaced over the split."""
        count = min(self.samples, len(texts[0]))
        chosen = [i * len(texts[0]) // count for i in range(count)]
        words = ("source   ", "reference", "output   ")
        return [[f"{word} {lines[i]}" for word, lines in zip(words, texts, strict=True)] for i in chosen]


def _next_tokens(model: nn.Module, batch: PairBatch) -> tuple[Tensor, Tensor]:
    """Return logits (N·T, vocabulary) in float32 and labels (N·T,), the next token at each position of the target."""
    logits = model(batch.source, batch.target[:, :-1])
    return logits.flatten(0, 1).float(), batch.target[:, 1:].flatten()


def _right(logits: Tensor, labels: Tensor) -> Tensor:
    return ((logits.argmax(1) == labels) & (labels != PAD)).sum()


def _tokens(batch: PairBatch) -> int:
    return int((batch.target[:, 1:] != PAD).sum())
