"""Which masked trainings there are, what a configuration says of each, and how masks are found. Nothing here trains."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from runner.config import choices
from runner.pruning.sweep import Sweeper
from runner.runs import TICKET_DROPOUT


@dataclass(frozen=True)
class Ticket:
    """One masked training: its name beside others of the same source, and arguments as `Masked` has them."""

    name: str
    granularity: str
    sparsity: float
    scores: str
    weights: str = "rewound"
    rewind: int = 0
    round: int = 1
    length: str | None = None  # of training; None: the source's
    rate: float = 1.0  # the learning rate's peak, as a fraction of the source's

    @property
    def needs_source(self) -> bool:
        """Whether a trained run has a part in it: a random mask on initial weights is the same for all of a seed."""
        return self.scores != "random" or self.weights == "final" or self.rewind > 0

    def config(self, first: Mapping[str, Any], source: str) -> dict[str, Any]:
        """The run's configuration: the trained run's with another dropout, and the sweep at its own sparsity.

        Args:
            first: the configuration of the run that it all began with.
            source: the name of the run whose mask it is, see `Masked`.
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
    """The `prune` part that measures networks at these sparsities, both ways with BatchNorm."""
    return {
        "sparsities": sparsities,
        "granularity": choices.settle("granularity", granularity),
        "criterion": choices.settle("criterion", scores),
        "scope": "layer",
        **{"floor": floor, "batch_norm": ["kept", "recalibrated"], "splits": ["validation", "test"]},
    }


def rounds(last: Ticket, iterations: int) -> list[Ticket]:
    """The trainings of iterative magnitude pruning: each removes the same fraction of what the one before left.

    With final weights they are the classical loop of pruning and fine-tuning.

    Round r of n has sparsity 1 - (1 - s)^(r / n), the last one exactly s.
    """
    steps = [1 - (1 - last.sparsity) ** (r / iterations) for r in range(1, iterations)]
    sparsities = [*(round(sparsity, 9) for sparsity in steps), last.sparsity]
    # From the second on a run's own scores are magnitudes, with what is gone below all.
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
    """Module → mask, True for what goes, of the trained weights that the sweeper's model holds; ranked as in a sweep.

    Raises:
        ValueError: features are to go and the model declares no places.
    """
    members = choices.builtin("granularity", ticket.granularity).members(sweeper.model)
    return members.masks(sweeper.ranking(members, "layer", ticket.scores).pruned(ticket.sparsity))
