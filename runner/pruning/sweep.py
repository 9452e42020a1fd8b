"""Pruning after training, over many sparsities: which points are asked for, and what each measures."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from runner.models.layers import prunable_layers
from runner.pruning.apply import apply_masks, batch_norms, layer_weights, recalibrated, restore, zeros
from runner.pruning.masks import Matrices, Ranking, magnitude, matrices, random_scores, weight_mask

RECALIBRATION_IMAGES = 2000


@dataclass(frozen=True)
class Point:
    """One evaluation of a sweep: the key of a row of pruning.csv."""

    granularity: str  # weight or unit
    scope: str  # layer or global
    scores: str  # own, magnitude or random
    floor: float  # the sparsity that is pruned at least
    batch_norm: str  # kept, recalibrated or none
    sparsity: float  # asked
    split: str  # validation or test

    @property
    def pruned(self) -> float:
        """The sparsity that is really asked of the ranking: a floor's mask and the asked one's are nested."""
        return max(self.floor, self.sparsity)


@dataclass
class Sweeper:
    """Evaluates points on one trained, plain model, sharing what they have in common.

    Args:
        model: plain, with its trained weights; they are back in place after every sweep.
        task: has evaluate(model, batches) → metrics, among them `loss` and `examples`.
        data: has eval_batches(split, limit).
        context: makes the context of a forward pass (autocast).
        own_scores: the variant's: granularity → layer → scores; magnitude where it has none.
        seed: of random scores.
        limit: how many examples of a split are evaluated; None: all.
    """

    model: nn.Module
    task: Any
    data: Any
    context: Callable[[], AbstractContextManager[object]] = nullcontext
    own_scores: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    seed: int = 0
    limit: int | None = None

    def rows(self, points: Iterable[Point]) -> Iterator[tuple[Point, dict[str, Any]]]:
        """Measure every point; points that differ in their asked sparsity alone and end at the same mask are measured
        once. Yields each as soon as it is known."""
        points = list(points)
        weights = layer_weights(prunable_layers(self.model))
        trained = {name: weight.detach().clone() for name, weight in weights.items()}
        rankings: dict[tuple[str, str, str], Ranking] = {}
        known: dict[tuple[Any, ...], dict[str, Any]] = {}
        self.model.eval()
        try:
            for point in sorted(points, key=_together):
                what = (point.granularity, point.scope, point.scores)
                setting = (*what, point.pruned, point.batch_norm)
                if (*setting, point.split) not in known:
                    if what not in rankings:
                        rankings[what] = self._ranking(trained, *what)
                    masks = rankings[what].pruned(point.pruned)
                    apply_masks(weights, trained, {n: weight_mask(masks[n], weights[n]) for n in weights})
                    counts = zeros(weights, point.granularity)
                    splits = {p.split for p in points if (*_what(p), p.pruned, p.batch_norm) == setting}
                    with self.context(), self._statistics(point.batch_norm):
                        for split in sorted(splits):
                            metrics = self.task.evaluate(self.model, self.data.eval_batches(split, self.limit))
                            known[*setting, split] = _row(counts, metrics)
                yield point, known[*setting, point.split]
        finally:
            restore(weights, trained)

    def _statistics(self, batch_norm: str) -> AbstractContextManager[None]:
        if batch_norm == "recalibrated":
            return recalibrated(self.model, self.data.eval_batches("train", limit=RECALIBRATION_IMAGES))
        return nullcontext()

    def _ranking(self, weights: Mapping[str, Tensor], granularity: str, scope: str, scores: str) -> Ranking:
        entries = {n: w[0].numel() for n, w in weights.items()} if granularity == "unit" else None
        return Ranking(self._scores(weights, granularity, scores), scope, entries)

    def _scores(self, weights: Mapping[str, Tensor], granularity: str, scores: str) -> Matrices:
        if scores == "random":
            return random_scores(weights, granularity, self.seed)
        if scores == "own" and granularity in self.own_scores:
            return matrices(self.own_scores[granularity], weights)
        return magnitude(weights, granularity)


def _what(point: Point) -> tuple[str, str, str]:
    return point.granularity, point.scope, point.scores


def _together(point: Point) -> tuple[Any, ...]:
    return (*_what(point), point.batch_norm, point.sparsity, point.split)


def _row(counts: tuple[float, int, int], metrics: Mapping[str, float]) -> dict[str, Any]:
    actual, nonzero, total = counts
    return {"actual_sparsity": actual, "nonzero_weights": nonzero, "prunable_weights": total, **metrics}


def asked_points(
    prune: Mapping[str, Any],
    granularities: Iterable[str],
    floor: Callable[[str], float],
    has_batch_norm: bool,
    splits: Iterable[str],
) -> list[Point]:
    """The points that a `prune` configuration asks for.

    Args:
        granularities: the variant's, for `granularity: auto`.
        floor: granularity → the variant's γ, for `floor: auto`.
        has_batch_norm: whether the model has running statistics; without, `batch_norm` is "none".
        splits: those that hold examples; others are left out.
    """
    if prune["granularity"] != "auto":
        granularities = [prune["granularity"]]
    norms = prune["batch_norm"] if has_batch_norm else ["none"]
    return [
        Point(
            granularity=granularity,
            scope=prune["scope"],
            scores=prune["scores"],
            floor=float(floor(granularity) if prune["floor"] == "auto" else prune["floor"]),
            batch_norm=norm,
            sparsity=float(sparsity),
            split=split,
        )
        for granularity in granularities
        for norm in norms
        for sparsity in sorted(set(prune["sparsities"]))
        for split in prune["splits"]
        if split in splits
    ]


def has_batch_norm(model: nn.Module) -> bool:
    """Whether recalibration means anything for the model."""
    return bool(batch_norms(model))
