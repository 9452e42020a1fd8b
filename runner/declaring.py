"""Detect prunable layers and feature places, by tracing, in models that do not declare them."""

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
    """Set `model.feature_places` to the places found by tracing, if the model declares none.

    Language models are always traced; other models only if their inputs have a fixed shape and features are to be
    dropped or pruned.
    """
    asked = config.get("prune", {}).get("granularity")
    wanted = {part["name"] for part in asked} if isinstance(asked, list) else set()
    wanted |= set(getattr(target(config, "dropout"), "granularities", ()))
    shaped = "input_shape" in about or {"channels", "image_size"} <= about.keys()
    text = {"vocabulary", "context"} <= about.keys()
    if hasattr(model, "feature_places") or not (text or ("feature" in wanted and shaped)):
        return
    tokens = min(16, about.get("context", 1))
    example = torch.zeros(2, tokens, dtype=torch.int64) if text else torch.rand(2, *input_shape(about))
    with suppress(Exception):  # whatever the user's forward raises; check_output reports it
        model.feature_places = find_places(find_coupling(model, (example,)))  # type: ignore[assignment]


def declare_layers(model: nn.Module, about: Mapping[str, Any], device: torch.device) -> None:
    """Set `model.prunable` to the prunable layers in the order of computation, if the model does not declare it.

    Training, the sweep and all later steps then use the same prunable layers. Models whose inputs have no fixed shape,
    e.g. language models, are left unchanged.
    """
    if hasattr(model, "prunable") or not ("input_shape" in about or {"channels", "image_size"} <= about.keys()):
        return
    example = torch.zeros(1, *input_shape(about), device=device)
    with suppress(ValueError):  # the model has none, which is an error only where they are needed
        model.prunable = list(prunable_layers(model, example=example))  # type: ignore[assignment]
