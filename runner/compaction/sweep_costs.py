"""Costs of a sweep's networks as they would be stored: cut if filters are pruned, packed if weights are."""

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from runner.compaction.costs import count_flops, planned_costs
from runner.compaction.coupling import Coupling
from runner.compaction.packing import pack
from runner.compaction.planning import make_plan, masked_zeros
from runner.compaction.saving import stored_tensors
from runner.compaction.tracing import find_coupling
from runner.data.token_batches import PairBatch
from runner.errors import first_line
from runner.pruning.paths import effective_sparsity

_PATHS_END = 0.9  # below this sparsity, hardly any path ends

log = logging.getLogger("runner")


def forward_arguments(batch: Any, examples: int) -> tuple[Tensor, ...]:
    """Return the arguments of a model's forward for the first examples of a batch, on the CPU."""
    if isinstance(batch, PairBatch):
        return batch.source[:examples].cpu(), batch.target[:examples, :-1].cpu()
    return (batch[0][:examples].cpu(),)


class SweepCosts:
    """Costs of one model under many masks. The model is traced once, on first use.

    Args:
        model: a plain, trained model; it is not modified.
        example: function that returns arguments of the model's `forward`, for at least two examples, on the CPU.
    """

    def __init__(self, model: nn.Module, example: Callable[[], Sequence[Tensor]]) -> None:
        self.model = model
        self._make_example = example
        self.failed: set[str] = set()  # granularities whose costs can't be determined

    def __call__(self, granularity: str, masks: Mapping[str, Tensor], structured: bool) -> dict[str, float]:
        """Return the masked network's `flops` for one example, `parameters` and `bytes`.

        If the masks aren't structured and remove 90 % of the weights or more, averaged over the layers,
        `effective_sparsity` is included where it is defined.

        Args:
            granularity: name of the granularity; each causes at most one warning.
            masks: mapping from layer to a mask, True for removed weights, that broadcasts over the weight. The masks
                must already be applied to the model.
            structured: whether zero filters, features and heads are cut. If False, `flops` and `parameters` include
                zero weights, and `bytes` is the size of the packed file with the model's current weights.

        Returns:
            The costs, or an empty dict if they can't be determined, for example because the network can't be traced.
        """
        if granularity in self.failed:
            return {}
        try:
            if not structured:
                parameters = sum(parameter.numel() for parameter in self.model.parameters())
                size = len(pack(stored_tensors(self.model)))
                known: dict[str, float] = {"flops": self._dense_flops, "parameters": parameters, "bytes": size}
                return known | self._effective(masks)
            plan = make_plan(self._coupling, masked_zeros(self._coupling, masks), constants=False)
            costs = planned_costs(self.model, self._coupling, plan)
            return {"flops": costs.flops, "parameters": costs.parameters, "bytes": costs.bytes}
        except Exception as error:  # a user's own model may raise anything; the sweep continues
            self.failed.add(granularity)
            log.warning("no costs of networks pruned by %s: %s", granularity, first_line(error))
            return {}

    def _effective(self, masks: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the `effective_sparsity`, or {} if it is undefined or the masks remove too few weights."""
        if not masks or sum(float(mask.float().mean()) for mask in masks.values()) < _PATHS_END * len(masks):
            return {}
        found = effective_sparsity(self.model, masks, self._example)
        return {} if found is None else {"effective_sparsity": found}

    def _on_cpu(self) -> nn.Module:
        return copy.deepcopy(self.model).cpu()

    @cached_property
    def _example(self) -> Sequence[Tensor]:
        return self._make_example()

    @cached_property
    def _dense_flops(self) -> int:
        return count_flops(self._on_cpu(), self._example) // len(self._example[0])

    @cached_property
    def _coupling(self) -> Coupling:
        return find_coupling(self._on_cpu(), self._example)
