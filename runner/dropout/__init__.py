"""Dropout variants that can be attached to any nn.Module and detached again."""

from runner.dropout.base import Variant
from runner.dropout.features import FeatureDropout
from runner.dropout.groups import TargetedGroups
from runner.dropout.masked import FixedMask
from runner.dropout.matryoshka import Matryoshka, Slimmable
from runner.dropout.nested import Nested, Ordered
from runner.dropout.standard import UnitDropout, WeightDropout
from runner.dropout.tail import Tail, TailDropout, get_scale_param
from runner.dropout.targeted import Targeted, TargetedUnit

__all__ = [
    "FeatureDropout",
    "FixedMask",
    "Matryoshka",
    "Nested",
    "Ordered",
    "Slimmable",
    "Tail",
    "TailDropout",
    "Targeted",
    "TargetedGroups",
    "TargetedUnit",
    "UnitDropout",
    "Variant",
    "WeightDropout",
    "get_scale_param",
]
