"""Second-order estimate of the change in the loss: LeCun et al. (1990), "Optimal brain damage", eq. 5."""

import torch
from torch import Tensor

from runner.parameters import whole
from runner.pruning.criteria.base import Evidence
from runner.pruning.criteria.measured import differentiable, gradients, losses
from runner.pruning.granularities.base import Members, Rows


class Hessian:
    """½ Σ w² H_ww over the weights of a member, where H_ww is the diagonal of the empirical Fisher information.

    This is the mean of the squared gradients of individual examples, which approximates the Hessian of a trained
    network's loss (Theis et al., 2018, "Faster gaze prediction with dense networks and Fisher pruning", eq. 6). The
    Hessian itself would need many Hessian-vector products for every layer. Where batches can't be divided, as with
    sentences, gradients of whole batches are used.

    Args:
        examples: number of training examples, at least 1.
    """

    comparable = True

    def __init__(self, examples: int = 500) -> None:
        self.examples = whole("examples", examples)

    def scores(self, members: Members, evidence: Evidence) -> Rows:
        weights = members.values()
        squares: dict[str, Tensor] = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        seen = 0
        with differentiable(members.weights):
            for loss, count in losses(evidence, self.examples, batch=1):
                for name, gradient in gradients(members, loss).items():
                    squares[name] += count * gradient.square()
                seen += count
        parts = members.gather({name: weights[name].square() * squares[name] / (2 * seen) for name in weights})
        return {name: torch.nan_to_num(part.sum(dim=-1)) for name, part in parts.items()}
