"""run: an experiment runner for networks that survive pruning.

    result = runner.train("model=resnet32", "dropout=targeted")
    result = runner.load("outputs/train/…")
    results = runner.find("outputs", dropout="targeted")
    network = runner.load_compact("outputs/train/…/compact/weight-0.99")

Importing this module does not import torch; functions that need it import it when they are called.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runner.api import Result, find, load, load_compact, train

__version__ = "0.1.0"
__all__ = ["Result", "__version__", "find", "load", "load_compact", "train"]


def __getattr__(name: str) -> Any:
    if name in ("Result", "find", "load", "load_compact", "train"):
        return getattr(import_module("runner.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
