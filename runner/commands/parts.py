"""Putting a configuration's parts together: what training, pruning and bench all start from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from runner.config.build import arguments, build, check_targets, target
from runner.config.length import Length
from runner.dropout.base import Variant
from runner.pruning.sweep import Sweeper
from runner.regularizers import NoRegularizer
from runner.runs import identity
from runner.seeding import derive_seed
from runner.training.loop import Training
from runner.training.machine import autocast, resolve_device, resolve_precision
from runner.training.schedules import decay_groups


@dataclass
class Parts:
    """The objects that a configuration names, on their device; the model is plain."""

    data: Any
    task: Any
    model: nn.Module
    variant: Variant
    device: torch.device
    precision: str
    config: Mapping[str, Any]
    regularizer: NoRegularizer = field(default_factory=NoRegularizer)

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Parts":
        """Build them; the model's initial weights follow from the seed.

        Args:
            config: settled, see `settle`.
        """
        device = resolve_device(config["device"])
        data = build(config, "data")
        data.fit(target(config, "model").minimum_size, config["model"]["input_size"])  # type: ignore[attr-defined]
        data.to(device)
        torch.manual_seed(derive_seed(config["seed"], "init"))
        model = build(config, "model", **data.model_arguments())
        # Channels last is the layout in which convolutions are fast, on processors and GPUs.
        model = model.to(device=device, memory_format=torch.channels_last)
        task, variant, regularizer = (build(config, group) for group in ("task", "dropout", "regularizer"))
        return cls(data, task, model, variant, device, config["precision"], config, regularizer)

    def training(self) -> Training:
        """The training of these parts, with the variant attached."""
        schedule, config = build(self.config, "schedule"), self.config["schedule"]
        batches = self.data.train_batches(config["batch_size"], self.config["seed"])
        return Training(
            model=self.model,
            variant=self.variant,
            regularizer=self.regularizer,
            data=self.data,
            task=self.task,
            schedule=schedule,
            batches=batches,
            steps=Length.parse(config["length"]).steps(batches.steps_per_epoch),
            groups=decay_groups(self.model, schedule.weight_decay),
            seed=self.config["seed"],
            device=self.device,
            precision=self.precision,
            examples_per_step=config["batch_size"],
            limit=self.config.get("limit"),
            compile=self.config["compile"],
            checkpoint_seconds=60 * self.config["checkpoint_minutes"],
        )

    def sweeper(self, own_scores: Mapping[str, Mapping[str, torch.Tensor]]) -> Sweeper:
        """The pruning of the plain, trained model."""
        context = partial(autocast, self.precision, self.device)
        seed, limit = self.config["seed"], self.config.get("limit")
        return Sweeper(self.model, self.task, self.data, context, own_scores, seed, limit)


def settle(config: Mapping[str, Any], foreign: bool = False) -> dict[str, Any]:
    """The configuration with what the machine decides written into it: the precision.

    Args:
        foreign: whether classes outside this package may be named (by the user's own --config-dir).
    """
    check_targets(config, foreign)
    device = resolve_device(config["device"])
    return {**config, "precision": resolve_precision(config["precision"], device)}


def run_hash(config: Mapping[str, Any]) -> str:
    """The settled configuration's identity, with the content of a user's own corpus in it."""
    fingerprint = getattr(target(config, "data"), "fingerprint", None)
    return identity(config, fingerprint(**arguments(config, "data")) if fingerprint else None)
