"""Pruning with reconstruction: Frantar & Alistarh (2023), "SparseGPT: massive language models can be accurately pruned
in one-shot", Algorithm 1."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from runner.densities import layer_fractions
from runner.errors import UserError
from runner.parameters import Count, Positive, checked
from runner.pruning.criteria.base import Evidence, Pruned
from runner.pruning.criteria.measured import add, sums_of_inputs
from runner.pruning.granularities.base import Members, Rows
from runner.pruning.granularities.n_of_m import GroupMembers
from runner.pruning.granularities.weight import WeightMembers
from runner.pruning.ranking import rank
from runner.ranking import count, lowest

# Scores of adjacent columns (filters, n) and the index of the first → which of them are removed, boolean.
Choose = Callable[[Tensor, int], Tensor]


class SparseGPT:
    """w² / U_cc² for a weight w in column c; the remaining weights are updated.

    U is the upper Cholesky factor of the inverse Hessian H⁻¹. The Hessian of a filter's squared output error is
    H = X Xᵀ + λ I, where X holds the inputs of its weights on training examples in the unpruned network. Columns are
    processed from left to right. The filter's weights to the right compensate for the effect of a removed weight on the
    outputs. Individual weights (`weight`, `n_of_m`) are chosen after the updates from earlier columns, in blocks of
    columns: with scope "layer", the same number in each filter; with "uniform" and "erk", the lowest among all filters,
    as in the authors' code. With `n_of_m`, they are chosen in each group when the group is reached. Other members, and
    all members with scope "global", are ranked once by the scores of the trained weights. Weights that are already zero
    stay zero.

    Args:
        examples: number of training examples in X.
        block: number of columns that are chosen and updated together.
        damping: λ, as a fraction of the mean of the diagonal of X Xᵀ.
    """

    comparable = True

    @checked
    def __init__(self, examples: Count = 1000, block: Count = 128, damping: Positive = 0.01) -> None:
        self.examples, self.block, self.damping = examples, block, damping

    def scores(self, members: Members, evidence: Evidence) -> Rows:
        return _scores(members, self._factors(members, evidence))

    def update(self, members: Members, scope: str, evidence: Evidence) -> Callable[[float], Pruned]:
        factors = self._factors(members, evidence)
        weights = {name: weight.clone() for name, weight in members.values().items()}
        adaptive = isinstance(members, WeightMembers) and scope != "global"
        ranking = None if adaptive else rank(members, _scores(members, factors), scope, self.comparable)

        def pruned(sparsity: float) -> Pruned:
            given = {} if ranking is None else members.turned(members.masks(ranking.pruned(sparsity)))
            masks, values = {}, {}
            for name, weight in weights.items():
                order, groups = _order(members, weight), len(factors[name])
                if ranking is None:
                    choices = [_chooser(members, scope, sparsity, name)] * groups
                else:
                    mask = given[name].expand(weight.shape).flatten(1)[:, order]
                    choices = [_taker(part) for part in mask.chunk(groups)]
                masks[name], values[name] = self._layer(members, weight, factors[name], order, choices)
            return members.turned(masks), members.turned(values)

        return pruned

    def _layer(
        self, members: Members, weight: Tensor, factors: Tensor, order: Tensor, choices: Sequence[Choose]
    ) -> tuple[Tensor, Tensor]:
        """Return the mask and the new values of one layer, in its weight's shape with filters in dim 0.

        The groups of a convolution read separate inputs, so each group has its own factor and choice.
        """
        m = members.m if isinstance(members, GroupMembers) else None
        block = self.block if m is None else max(m, self.block // m * m)
        parts = weight.flatten(1)[:, order].chunk(len(factors))
        done = [
            solve(part, factor, choose, block, m) for part, factor, choose in zip(parts, factors, choices, strict=True)
        ]
        back = order.argsort()
        mask, values = (torch.cat(found)[:, back].view(weight.shape) for found in zip(*done, strict=True))
        return mask, values

    @torch.no_grad()
    def _factors(self, members: Members, evidence: Evidence) -> dict[str, Tensor]:
        """Return U with UᵀU = H⁻¹ by layer, as (groups, columns, columns) with columns in the order of processing."""
        weights = members.values()
        found = {}
        for name, hessian in sums_of_inputs(members, evidence, self.examples, _watch).items():
            order = _order(members, weights[name]).cpu()
            parts = []
            for part in hessian.cpu().double():  # an inverse needs float64, which some devices lack
                mean = float(part.diagonal().mean())
                part = part[order][:, order] + torch.eye(len(part)) * (self.damping * mean if mean else 1.0)
                inverse = torch.cholesky_inverse(torch.linalg.cholesky(part))
                parts.append(torch.linalg.cholesky(inverse, upper=True))
            found[name] = torch.stack(parts).to(weights[name])
        return found


def solve(weight: Tensor, factor: Tensor, choose: Choose, block: int = 128, group: int | None = None) -> Any:
    """Run Algorithm 1 on one matrix.

    Args:
        weight: (filters, columns).
        factor: U, upper triangular, UᵀU = H⁻¹.
        choose: function that selects the weights to remove, given scores w² / U_cc² of adjacent columns and the index
            of the first; see `Choose`.
        block: number of columns that are chosen together and whose effect on columns to their right is accumulated.
        group: number of columns that are chosen together instead; blocks contain a multiple of it.

    Returns:
        A tuple of the mask, True for removed weights, and the new values, zero for removed weights; both have
        shape (filters, columns).
    """
    w, zero, mask = weight.clone(), weight == 0, torch.zeros_like(weight, dtype=torch.bool)
    columns = weight.shape[1]
    for first in range(0, columns, block):
        end = min(first + block, columns)
        part, u = w[:, first:end].clone(), factor[first:end, first:end]
        errors, diagonal = torch.zeros_like(part), u.diagonal()
        for i in range(end - first):
            if i % (group or block) == 0:
                chosen = slice(i, min(i + (group or block), end - first))
                known = zero[:, first:end][:, chosen]
                scores = (part[:, chosen] / diagonal[chosen]).square().masked_fill(known, -1.0)
                mask[:, first:end][:, chosen] = choose(scores, first + i) | known
            gone = mask[:, first + i]
            errors[:, i] = part[:, i].where(gone, 0) / diagonal[i]
            part[:, i + 1 :] -= errors[:, i, None] * u[i, i + 1 :]
            part[:, i].masked_fill_(gone, 0)
        w[:, first:end] = part
        w[:, end:] -= errors @ factor[first:end, end:]
    return mask, w


def _scores(members: Members, factors: dict[str, Tensor]) -> Rows:
    """Return each member's score, summed over its weights."""
    found = {}
    for name, weight in members.values().items():
        order = _order(members, weight)
        diagonals = factors[name].diagonal(dim1=1, dim2=2)[:, order.argsort()]
        of_filters = diagonals.repeat_interleave(len(weight) // len(diagonals), dim=0)
        found[name] = (weight.flatten(1) / of_filters).square().view(weight.shape)
    return {name: part.sum(-1) for name, part in members.gather(found).items()}


def _chooser(members: Members, scope: str, sparsity: float, name: str) -> Choose:
    """Return a function that chooses weights per filter, per group of m or among all filters, so that counts add up."""
    shapes = {of: weight.shape for of, weight in members.filters().items()}
    each = sparsity if scope == "layer" else layer_fractions(scope, shapes, sparsity)[name]

    def choose(scores: Tensor, first: int) -> Tensor:
        rows, width = scores.shape
        if isinstance(members, GroupMembers):
            return lowest(scores, count(each, width))
        if scope == "layer":
            return lowest(scores, count(each, first + width) - count(each, first))
        k = count(each, rows * (first + width)) - count(each, rows * first)
        return lowest(scores.reshape(1, -1), k).view(scores.shape)

    return choose


def _taker(mask: Tensor) -> Choose:
    return lambda scores, first: mask[:, first : first + scores.shape[1]]


def _order(members: Members, weight: Tensor) -> Tensor:
    """Return the order in which a filter's columns are processed; the columns of a group are adjacent."""
    entries = torch.arange(weight[0].numel(), device=weight.device)
    return entries.view(weight.shape[1], -1).T.flatten() if isinstance(members, GroupMembers) else entries


def _watch(sums: dict[str, Tensor], name: str, layer: nn.Module) -> RemovableHandle:
    """Register a hook that accumulates X Xᵀ of a layer's inputs, with shape (groups, columns, columns)."""
    if not isinstance(layer, nn.Linear | nn.Conv2d):
        raise UserError(f"sparsegpt prunes linear layers and 2d convolutions; {name!r} is a {type(layer).__name__}")

    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        with torch.autocast(inputs[0].device.type, enabled=False):
            x = _columns(layer, inputs[0].detach().float())
            add(sums, name, x @ x.transpose(1, 2))

    return layer.register_forward_pre_hook(hook)


def _columns(layer: nn.Linear | nn.Conv2d, x: Tensor) -> Tensor:
    """Return the inputs X to each column of a filter, with shape (groups, columns, positions of all examples)."""
    if isinstance(layer, nn.Linear):
        return x.flatten(0, -2).T[None]
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padded = F.pad(x, layer._reversed_padding_repeated_twice, mode)
    unfolded = F.unfold(padded, layer.kernel_size, layer.dilation, 0, layer.stride)
    return unfolded.unflatten(1, (layer.groups, -1)).permute(1, 2, 0, 3).flatten(2)
