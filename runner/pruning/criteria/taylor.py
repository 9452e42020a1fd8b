"""First-order estimate of the change in the loss: Molchanov et al. (2019), "Importance estimation for neural network
pruning", eqs. 8 and 9, with absolute values as in the first-order criterion of Molchanov et al. (2017)."""

import torch

from runner.parameters import whole
from runner.pruning.criteria.base import Evidence
from runner.pruning.criteria.measured import differentiable, gradients, losses
from runner.pruning.granularities.base import Members, Rows


class Taylor:
    """|Σ w ∂L/∂w| over the weights of a member, averaged over batches of training examples.

    Args:
        examples: number of training examples, at least 1.
    """

    comparable = True

    def __init__(self, examples: int = 1000) -> None:
        self.examples = whole("examples", examples)

    def scores(self, members: Members, evidence: Evidence) -> Rows:
        sums: Rows = {}
        weights = members.values()
        with differentiable(members.weights):
            for loss, count in losses(evidence, self.examples):
                found = gradients(members, loss)
                parts = members.gather({name: found[name] * weights[name] for name in found})
                for name, part in parts.items():
                    scores = count * part.sum(dim=-1).abs()
                    sums[name] = sums[name] + scores if name in sums else scores
        return {name: torch.nan_to_num(score.detach()) for name, score in sums.items()}
