"""Sentence embedding: imitation of another network's embeddings, with the cosine distance as loss."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runner.tasks.metrics import COSINE, NEAREST, SPEARMAN, Metric


class Embedding:
    """Sentence embedding. The loss is one minus the cosine similarity between embedding and target.

    There are three metrics. `cosine` is the mean cosine similarity with the targets; `spearman` is the rank correlation
    between the pairwise similarities of the network's embeddings and those of the targets, over all pairs of sentences
    in the split; `nearest` is the fraction of sentences whose nearest neighbour in the split is the same as among the
    targets.
    """

    kind = "sentences"
    example_unit = "sent"
    headline = "cosine"
    metrics: tuple[Metric, ...] = (COSINE,)
    sweep_metrics: tuple[Metric, ...] = (COSINE, SPEARMAN, NEAREST)

    def training_loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor], int]:
        """Return the mean loss of the batch, the sum of its cosine similarities, and the number of sentences."""
        ids, targets = batch
        cosines = F.cosine_similarity(model(ids).float(), targets, dim=-1)
        return 1 - cosines.mean(), {"cosine": cosines.detach().sum()}, len(ids)

    @torch.no_grad()
    def evaluate(self, model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
        """Return the mean loss, the metrics, and the number of sentences."""
        parts = [(model(ids).float(), targets) for ids, targets in batches]
        found, targets = (F.normalize(torch.cat(part), dim=-1) for part in zip(*parts, strict=True))
        cosine = float((found * targets).sum(-1).mean(dtype=torch.float64))
        own, dense = found @ found.T, targets @ targets.T
        above = torch.triu_indices(len(found), len(found), offset=1, device=found.device).unbind()
        nearest = [similar.fill_diagonal_(-2).argmax(1) for similar in (own.clone(), dense.clone())]
        return {
            "cosine": cosine,
            "spearman": spearman(own[above], dense[above]),
            "nearest": float((nearest[0] == nearest[1]).float().mean()),
            "loss": 1 - cosine,
            "examples": len(found),
        }

    @torch.no_grad()
    def validate(self, model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
        """Return `cosine`, `loss` and the number of sentences."""
        total, examples = 0.0, 0
        for ids, targets in batches:
            total += float(F.cosine_similarity(model(ids).float(), targets, dim=-1).sum(dtype=torch.float64))
            examples += len(ids)
        return {"cosine": total / examples, "loss": 1 - total / examples, "examples": examples}


def spearman(x: Tensor, y: Tensor) -> float:
    """Return Spearman's rank correlation of two vectors. Ties are ranked in order of appearance, not averaged."""
    ranks = torch.stack([v.argsort(stable=True).argsort(stable=True).double() for v in (x, y)])
    return float(torch.corrcoef(ranks)[0, 1])
