"""The configurations and masks of masked training runs. This module does no training."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from runner.config import choices
from runner.pruning.sweep import Sweeper
from runner.runs import TICKET_DROPOUT


@dataclass(frozen=True)
class Ticket:
    """A masked training run: its name, unique among those of the same source, and the arguments of `Masked`."""

    name: str
    granularity: str
    sparsity: float
    scores: str
    weights: str = "rewound"
    rewind: int = 0
    round: int = 1
    length: str | None = None  # length of training; None for the source's
    rate: float = 1.0  # peak learning rate, as a fraction of the source's

    @property
    def needs_source(self) -> bool:
        """Whether a finished training run is needed as a source. Random masks on initial weights need only the seed."""
        return self.scores != "random" or self.weights == "final" or self.rewind > 0

    def config(self, first: Mapping[str, Any], source: str) -> dict[str, Any]:
        """Return the original run's configuration with the ticket's dropout and schedule, and a sweep at its sparsity.

        Args:
            first: the configuration of the original run.
            source: the name of the run that the mask comes from; see `Masked`.
        """
        name = f"{first['dropout']['name'] if self.needs_source else 'any'}-{self.name}"
        dropout = {
            **{"name": name, "_target_": TICKET_DROPOUT, "source": source if self.needs_source else None},
            **{"granularity": self.granularity, "sparsity": self.sparsity, "scores": self.scores},
            **{"weights": self.weights, "rewind": self.rewind, "round": self.round},
        }
        schedule = dict(first["schedule"])
        if self.length is not None:
            schedule["length"] = self.length
        if self.rate != 1:
            schedule["learning_rate"] = float(f"{self.rate * schedule['learning_rate']:.9g}")
        prune = sweep(self.granularity, "own", 0.0, [self.sparsity])
        return {**first, "dropout": dropout, "schedule": schedule, "prune": prune, "folder": None}


def sweep(granularity: str, scores: str, floor: float | str, sparsities: list[float]) -> dict[str, Any]:
    """Return the `prune` section that evaluates networks at the given sparsities in both BatchNorm modes."""
    return {
        "sparsities": sparsities,
        "granularity": choices.settle("granularity", granularity),
        "criterion": choices.settle("criterion", scores),
        "scope": "layer",
        **{"floor": floor, "batch_norm": ["kept", "recalibrated"], "splits": ["validation", "test"]},
    }


def rounds(last: Ticket, iterations: int) -> list[Ticket]:
    """Return the runs of iterative magnitude pruning. Each one removes the same fraction of the remaining members.

    With final weights, this is the classical loop of pruning and fine-tuning. Round r of n has sparsity 1 - (1 - s)^(r
    / n), so that the last round reaches exactly s.
    """
    steps = [1 - (1 - last.sparsity) ** (r / iterations) for r in range(1, iterations)]
    sparsities = [*(round(sparsity, 9) for sparsity in steps), last.sparsity]
    # From the second round, a run's own scores are magnitudes, with removed members below all others.
    return [
        replace(
            last,
            name=f"{last.name}{r}of{iterations}",
            sparsity=sparsity,
            scores="magnitude" if r == 1 else "own",
            round=r,
        )
        for r, sparsity in enumerate(sparsities, 1)
    ]


def removed(sweeper: Sweeper, ticket: Ticket) -> dict[str, Tensor]:
    """Return a mask for each pruned layer of the sweeper's model, True for removed weights, ranked as in a sweep.

    Raises:
        ValueError: features are to be removed, but the model has no feature places.
    """
    members = choices.builtin("granularity", ticket.granularity).members(sweeper.model)
    return members.masks(sweeper.ranking(members, "layer", ticket.scores).pruned(ticket.sparsity))
