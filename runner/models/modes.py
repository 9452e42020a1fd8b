"""Training and evaluation mode of every module of a model, restored after use."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def restored_modes(model: nn.Module) -> Iterator[None]:
    """A context after which every module is in its previous mode again."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """A context in which every module is in evaluation mode."""
    with restored_modes(model):
        model.eval()
        yield
