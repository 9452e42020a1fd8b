"""Sweeps: prune a trained model at many sparsities and measure it at each of them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from runner.config import choices
from runner.densities import SCOPES
from runner.errors import ConfigError
from runner.interfaces import Data, Task
from runner.pruning.apply import apply_masks, batch_norms, pruning, ranking, recalibrated, restore
from runner.pruning.criteria.base import Criterion, Evidence, Pruned
from runner.pruning.granularities.base import Granularity, Members, nonzero_weights, scopes_of
from runner.pruning.ranking import Ranking

RECALIBRATION_IMAGES = 2000


@dataclass(frozen=True)
class Point:
    """One evaluation of a sweep. Its fields identify a row of pruning.csv."""

    granularity: str  # its key: weight, unit, feature, …
    scope: str  # layer, uniform, erk or global
    scores: str  # the criterion's key: own, magnitude, random, …
    floor: float  # the minimum sparsity
    batch_norm: str  # kept, recalibrated or none
    sparsity: float  # as requested
    split: str  # validation or test

    @property
    def pruned(self) -> float:
        """The sparsity passed to the ranking: the larger of `floor` and `sparsity`, because their masks are nested."""
        return max(self.floor, self.sparsity)


@dataclass
class Sweeper:
    """Evaluates points on one trained, plain model and shares work between them.

    Args:
        model: the plain model with its trained weights, which are restored after every sweep.
        task: object with a method evaluate(model, batches) that returns metrics, including `loss` and `examples`.
        data: object with the methods eval_batches(split, limit) and augmented_batches(limit, seed).
        context: function that creates the context manager of a forward pass (autocast).
        own_scores: scores of the variant, by granularity and layer (for features, the consumer). Without them,
            magnitudes are used.
        seed: seed of random scores and of the augmented training batches for criteria and recalibration.
        limit: number of examples to evaluate per split; None means all.
        granularities, criteria: mappings from key to object. Other keys refer to the built-in choice of that name.
        costs: function that returns additional columns of a row. Its arguments are the granularity, the masks, which
            are already applied, and whether the granularity is structured; see `Members`.
        keep_samples: function that is called with a point, a split, its row and the task's samples of the network's
            outputs, if there are any.
    """

    model: nn.Module
    task: Task[Any]
    data: Data[Any]
    context: Callable[[], AbstractContextManager[object]] = nullcontext
    own_scores: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    seed: int = 0
    limit: int | None = None
    granularities: Mapping[str, Granularity] = field(default_factory=dict)
    criteria: Mapping[str, Criterion] = field(default_factory=dict)
    costs: Callable[[str, Mapping[str, Tensor], bool], Mapping[str, Any]] = lambda *_: {}
    keep_samples: Callable[[Point, str, Mapping[str, Any], Any], object] = lambda *_: None

    def rows(self, points: Iterable[Point]) -> Iterator[tuple[Point, dict[str, Any]]]:
        """Measure every point, and yield each point with its row as soon as it is known.

        Points that differ only in their requested sparsity and lead to the same mask are measured only once. The
        unpruned network is measured once for all granularities.
        """
        points = list(points)
        known: dict[tuple[Any, ...], dict[str, Any]] = {}
        unpruned: dict[tuple[str, str], dict[str, Any]] = {}
        self.model.eval()
        for granularity in sorted({point.granularity for point in points}):
            members = self._granularity(granularity).members(self.model)
            trained = {name: weight.detach().clone() for name, weight in members.weights.items()}
            prunings: dict[tuple[str, str, str], Callable[[float], Pruned]] = {}
            costs: dict[tuple[Any, ...], Mapping[str, Any]] = {}
            try:
                for point in sorted((p for p in points if p.granularity == granularity), key=_together):
                    what = _what(point)
                    setting = (*what, point.pruned, point.batch_norm)
                    if (*setting, point.split) not in known:
                        if what not in prunings:
                            restore(members.weights, trained)
                            prunings[what] = self.pruning(members, point.scope, point.scores)
                        masks, values = prunings[what](point.pruned)
                        apply_masks(members.weights, {**trained, **values}, masks)
                        if (*what, point.pruned) not in costs:
                            costs[*what, point.pruned] = self.costs(members.granularity, masks, members.structured)
                        splits = {p.split for p in points if (*_what(p), p.pruned, p.batch_norm) == setting}
                        metrics = unpruned if point.pruned == 0 else {}
                        rows = self._measured(members, point, splits, metrics)
                        cost = costs[*what, point.pruned]
                        known |= {(*setting, split): {**row, **cost} for split, row in rows}
                    yield point, known[*setting, point.split]
            finally:
                restore(members.weights, trained)

    def pruned(self, point: Point) -> AbstractContextManager[None]:
        """Return a context manager in which the model is in evaluation mode and pruned as `rows` prunes it at a point.

        The point's split is not used.

        Raises:
            ValueError: the model has no members of that granularity.
        """
        members = self._granularity(point.granularity).members(self.model) if point.pruned else None
        return self._pruned(members, point)

    @contextmanager
    def _pruned(self, members: Members | None, point: Point) -> Iterator[None]:
        self.model.eval()
        weights = {} if members is None else members.weights
        trained = {name: weight.detach().clone() for name, weight in weights.items()}
        try:
            if members is not None:
                masks, values = self.pruning(members, point.scope, point.scores)(point.pruned)
                apply_masks(weights, {**trained, **values}, masks)
            with ExitStack() as stack:
                with self.context():
                    stack.enter_context(statistics(self.model, self.data, point.batch_norm, self.seed))
                yield
        finally:
            restore(weights, trained)

    def _measured(
        self, members: Members, point: Point, splits: Iterable[str], known: dict[tuple[str, str], dict[str, Any]]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield one row per split.

        Args:
            known: mapping from (batch_norm, split) to the metrics of this network; missing metrics are measured and
                added.
        """
        nonzero, total = nonzero_weights(members.weights)
        counts = {"actual_sparsity": members.sparsity(), "nonzero_weights": nonzero, "prunable_weights": total}
        if missing := sorted(split for split in splits if (point.batch_norm, split) not in known):
            with self.context(), statistics(self.model, self.data, point.batch_norm, self.seed):
                for split in missing:
                    metrics = self.task.evaluate(self.model, self.data.eval_batches(split, self.limit))
                    if samples := metrics.pop("samples", None):
                        self.keep_samples(point, split, {**counts, **metrics}, samples)
                    known[point.batch_norm, split] = metrics
        for split in sorted(splits):
            yield split, {**counts, **known[point.batch_norm, split]}

    def _granularity(self, key: str) -> Granularity:
        found: Granularity = self.granularities.get(key) or choices.builtin("granularity", key)
        return found

    def pruning(self, members: Members, scope: str, scores: str) -> Callable[[float], Pruned]:
        """Return a function that maps a sparsity to masks and updated weights; the model must hold its trained weights.

        Args:
            scores: key of the pruning criterion.
        """
        return pruning(members, self._criterion(scores), scope, self._evidence())

    def ranking(self, members: Members, scope: str, scores: str) -> Ranking:
        """Return the order in which members are removed; the model must hold its trained weights.

        Args:
            scores: key of the pruning criterion.
        """
        return ranking(members, self._criterion(scores), scope, self._evidence())

    def _criterion(self, key: str) -> Criterion:
        found: Criterion = self.criteria.get(key) or choices.builtin("criterion", key)
        return found

    def _evidence(self) -> Evidence:
        """Return the data that criteria may use."""
        return Evidence(
            self.own_scores,
            self.seed,
            self.model,
            self.task,
            lambda examples: self.data.augmented_batches(examples, self.seed),
            self.context,
        )


def statistics(model: nn.Module, data: Any, batch_norm: str, seed: int) -> AbstractContextManager[None]:
    """Return a context manager in which BatchNorm's statistics are recomputed if batch_norm is "recalibrated".

    They are computed from augmented training images, because these are the images that the network was trained on.
    Calls with the same seed use the same images.
    """
    if batch_norm == "recalibrated":
        return recalibrated(model, data.augmented_batches(RECALIBRATION_IMAGES, seed))
    return nullcontext()


def _what(point: Point) -> tuple[str, str, str]:
    return point.granularity, point.scope, point.scores


def _together(point: Point) -> tuple[Any, ...]:
    return (*_what(point), point.batch_norm, point.sparsity, point.floor, point.split)


def asked_points(
    prune: Mapping[str, Any],
    granularities: Iterable[str],
    floor: Callable[[str], float],
    has_batch_norm: bool,
    splits: Iterable[str],
    scope: str = "layer",
) -> list[Point]:
    """Return the points that a `prune` configuration requests.

    Args:
        prune: the configuration, with resolved choices for `granularity` and `criterion`; see `runner.config.choices`.
        granularities: names of the variant's granularities, for `granularity: auto`.
        floor: function that maps a granularity to the variant's floor, for `floor: auto`; see `Variant.floor`.
        has_batch_norm: whether the model has running statistics; if not, `batch_norm` is "none".
        splits: splits that have examples; others are left out.
        scope: the variant's scope, for `scope: auto`.
    """
    asked = [{"name": name, "key": name} for name in granularities]
    if prune["granularity"] != "auto":
        asked = prune["granularity"]
    norms = prune["batch_norm"] if has_batch_norm else ["none"]
    return [
        Point(
            granularity=granularity["key"],
            scope=scope_for(granularity, prune["scope"], scope),
            scores=criterion["key"],
            floor=float(floor(granularity["name"]) if prune["floor"] == "auto" else prune["floor"]),
            batch_norm=norm,
            sparsity=float(sparsity),
            split=split,
        )
        for granularity in asked
        for criterion in prune["criterion"]
        for norm in norms
        for sparsity in sorted(set(prune["sparsities"]))
        for split in prune["splits"]
        if split in splits
    ]


def scope_for(granularity: Mapping[str, Any], asked: str, own: str) -> str:
    """Return the scope in which the members of a granularity are compared.

    Args:
        asked: a scope, or `auto` for the variant's own if the granularity supports it.
        own: the variant's scope.

    Raises:
        ConfigError: the granularity does not support the requested scope.
    """
    scopes = scopes_of(choices.make("granularity", granularity)) if "_target_" in granularity else SCOPES
    if asked == "auto":
        return own if own in scopes else scopes[0]
    if asked not in scopes:
        name = granularity["name"]
        raise ConfigError(f"prune.scope={asked}: not for prune.granularity={name}; expected auto, {', '.join(scopes)}")
    return asked


def with_unpruned(points: Sequence[Point]) -> list[Point]:
    """Return the points, preceded by those of the unpruned network (floor 0, sparsity 0) if they are missing.

    The ranking doesn't matter for these points, so they have layer scope and own scores in every sweep.
    """
    there = {(point.granularity, point.batch_norm, point.split) for point in points if point.pruned == 0}
    asked = dict.fromkeys((point.granularity, point.batch_norm, point.split) for point in points)
    missing = [key for key in asked if key not in there]
    return [
        *(Point(granularity, "layer", "own", 0.0, norm, 0.0, split) for granularity, norm, split in missing),
        *points,
    ]


def has_batch_norm(model: nn.Module) -> bool:
    """Return whether recalibration has any effect on the model."""
    return bool(batch_norms(model))
