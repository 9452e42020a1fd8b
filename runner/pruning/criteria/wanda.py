"""Pruning by weights and activations: Sun et al. (2024), "A simple and effective pruning approach for large language
models", eq. 1."""

from runner.parameters import whole
from runner.pruning.criteria.base import Evidence
from runner.pruning.criteria.measured import input_norms
from runner.pruning.granularities.base import Members, Rows


class Wanda:
    """|w| times the L2 norm of the weight's inputs over training examples.

    The score of a larger member is the L2 norm of these products over its weights. Sun et al. compare the weights of
    one output with one another, which is `prune.scope=layer`.

    Args:
        examples: number of training examples, at least 1.
    """

    def __init__(self, examples: int = 1000) -> None:
        self.examples = whole("examples", examples)

    def scores(self, members: Members, evidence: Evidence) -> Rows:
        norms = input_norms(members, evidence, self.examples)
        parts = members.gather({name: weight * norms[name] for name, weight in members.values().items()})
        return {
            name: part.abs().squeeze(-1) if part.shape[-1] == 1 else part.norm(dim=-1) for name, part in parts.items()
        }
