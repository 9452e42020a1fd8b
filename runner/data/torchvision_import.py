"""Import torchvision even if its compiled operators cannot be loaded."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType

import torch

MISSING_OPERATORS = "operator torchvision::nms does not exist"
SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)

# A declaration exists as long as its Library object.
_declared: list[torch.library.Library] = []


def import_torchvision(importer: Callable[[str], ModuleType] = importlib.import_module) -> ModuleType:
    """Import torchvision so that its data sets and transforms can be used.

    With a CPU-only torch, a torchvision built for CUDA cannot load its operators and fails at the first one. Only in
    this case, the operators are declared without an implementation; if they existed, a second declaration would break
    them. Any other error is propagated.
    """
    try:
        return importer("torchvision")
    except RuntimeError as error:
        if MISSING_OPERATORS not in str(error):
            raise
    for name in [name for name in sys.modules if name == "torchvision" or name.startswith("torchvision.")]:
        del sys.modules[name]
    declare_operators()
    return importer("torchvision")


def declare_operators() -> None:
    """Declare torchvision's operators to torch."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in SCHEMAS:
        library.define(schema)
    _declared.append(library)
