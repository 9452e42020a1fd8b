"""Dropout variants: each attaches itself to any nn.Module and leaves it plain when it detaches."""

from runner.dropout.base import Variant
from runner.dropout.standard import UnitDropout, WeightDropout
from runner.dropout.targeted import Targeted, TargetedUnit

__all__ = ["Targeted", "TargetedUnit", "UnitDropout", "Variant", "WeightDropout"]
