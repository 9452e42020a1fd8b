"""What a model does not declare about itself, found by a trace: its prunable layers and the places of its features."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import nn

from runner.checks import input_shape
from runner.compaction.places import find_places
from runner.compaction.tracing import find_coupling
from runner.config.build import target
from runner.models.layers import prunable_layers


def declare_places(config: Mapping[str, Any], model: nn.Module, about: Mapping[str, Any]) -> None:
    """Have a model that declares no places for features declare those that a trace finds: one for images where
    features are to be dropped or cut, a language model always."""
    asked = config.get("prune", {}).get("granularity")
    wanted = {part["name"] for part in asked} if isinstance(asked, list) else set()
    wanted |= set(getattr(target(config, "dropout"), "granularities", ()))
    shaped = "input_shape" in about or {"channels", "image_size"} <= about.keys()
    text = {"vocabulary", "context"} <= about.keys()
    if hasattr(model, "feature_places") or not (text or ("feature" in wanted and shaped)):
        return
    tokens = min(16, about.get("context", 1))
    example = torch.zeros(2, tokens, dtype=torch.int64) if text else torch.rand(2, *input_shape(about))
    with suppress(Exception):  # whatever somebody's forward raises; check_output says it
        model.feature_places = find_places(find_coupling(model, (example,)))  # type: ignore[assignment]


def declare_layers(model: nn.Module, about: Mapping[str, Any], device: torch.device) -> None:
    """Have a model for images that declares no prunable layers declare those by the order of its computation, so that
    training, sweep and all that follow agree on them."""
    if hasattr(model, "prunable") or not ("input_shape" in about or {"channels", "image_size"} <= about.keys()):
        return
    example = torch.zeros(1, *input_shape(about), device=device)
    with suppress(ValueError):  # there are none, which concerns only who asks for them
        model.prunable = list(prunable_layers(model, example=example))  # type: ignore[assignment]
