"""Putting a configuration's parts together: what training, pruning and bench all start from."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from runner.config.build import arguments, build, check_targets, options_of, target
from runner.config.length import Length
from runner.config.sources import own_sources
from runner.dropout.base import Variant
from runner.errors import ConfigError, ParameterError, first_line
from runner.models.layers import feature_places, prunable_layers
from runner.models.memory_format import use_fast_memory_format
from runner.pruning.sweep import Sweeper
from runner.regularizers import NoRegularizer
from runner.runs import identity
from runner.seeding import derive_seed
from runner.training.loop import Training
from runner.training.machine import autocast, resolve_device, resolve_precision
from runner.training.schedules import decay_groups

# What the examples are, for people.
_KINDS = {"images": "images", "pairs": "pairs of sentences"}


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
        _check_kinds(config)
        data = build(config, "data")
        _check_splits(config, data.splits)
        if hasattr(data, "fit"):  # images come in the size that the model asks for
            with options_of("model"):
                data.fit(getattr(target(config, "model"), "minimum_size", 1), config["model"].get("input_size"))
        data.to(device)
        torch.manual_seed(derive_seed(config["seed"], "init"))
        model = build(config, "model", **data.model_arguments())
        _check_places(config, model)
        model = use_fast_memory_format(model.to(device))
        task, variant, regularizer = (build(config, group) for group in ("task", "dropout", "regularizer"))
        _check_output(config, data, task, model, device)
        _declare_layers(model, data.model_arguments(), device)
        return cls(data, task, model, variant, device, config["precision"], config, regularizer)

    def training(self) -> Training:
        """The training of these parts, with the variant attached."""
        schedule, config = build(self.config, "schedule"), self.config["schedule"]
        with options_of("schedule"):
            batches = self.data.train_batches(config["batch_size"], self.config["seed"])
        try:
            return self._training(schedule, batches)
        except ParameterError as error:
            raise ConfigError(f"dropout.{error}") from None
        except ValueError as error:  # the variant finds nothing in the model to work on
            raise ConfigError(f"dropout={self.config['dropout']['name']}: {error}") from None

    def _training(self, schedule: Any, batches: Any) -> Training:
        config = self.config
        return Training(
            model=self.model,
            variant=self.variant,
            regularizer=self.regularizer,
            data=self.data,
            task=self.task,
            schedule=schedule,
            batches=batches,
            steps=Length.parse(config["schedule"]["length"]).steps(batches.steps_per_epoch),
            groups=decay_groups(self.model, schedule.weight_decay),
            seed=config["seed"],
            device=self.device,
            precision=self.precision,
            examples_per_step=batches.examples_per_step,
            limit=config.get("limit"),
            compile=config["compile"],
            checkpoint_seconds=60 * config["checkpoint_minutes"],
        )

    def sweeper(self, own_scores: Mapping[str, Mapping[str, torch.Tensor]]) -> Sweeper:
        """The pruning of the plain, trained model."""
        context = partial(autocast, self.precision, self.device)
        seed, limit = self.config["seed"], self.config.get("limit")
        return Sweeper(self.model, self.task, self.data, context, own_scores, seed, limit)


def _check_kinds(config: Mapping[str, Any]) -> None:
    """Raises: ConfigError where data, task and model are not about the same kind of example."""
    kinds = {group: getattr(target(config, group), "kind", "images") for group in ("model", "data", "task")}
    for group in ("data", "task"):
        if kinds[group] != kinds["model"]:
            raise ConfigError(
                f"{group}={config[group]['name']} is about {_KINDS.get(kinds[group], kinds[group])}, but "
                f"model={config['model']['name']} about {_KINDS.get(kinds['model'], kinds['model'])}"
            )


def _check_output(config: Mapping[str, Any], data: Any, task: Any, model: nn.Module, device: torch.device) -> None:
    """Raises: ConfigError where the model returns something else for an image than the task expects, or fails on it."""
    if not hasattr(task, "output_shape"):
        return
    about = data.model_arguments()
    name, size = config["model"]["name"], about["image_size"]
    model.eval()
    try:
        with torch.no_grad():
            output = model(torch.zeros(1, about["channels"], size, size, device=device))
    except Exception as error:  # whatever a user's own model raises
        raise ConfigError(
            f"model={name} fails on an image of {size}x{size} px of data={config['data']['name']}: "
            f"{type(error).__name__}: {first_line(error)}"
        ) from error
    finally:
        model.train()
    expected = tuple(task.output_shape(**about))
    found = tuple(output.shape[1:]) if isinstance(output, torch.Tensor) else type(output).__name__
    if found != expected:
        wanted = f"task={config['task']['name']} expects {task.output}, of shape {expected}"
        raise ConfigError(f"{wanted}, but model={name} returns {found}")


def _declare_layers(model: nn.Module, about: Mapping[str, Any], device: torch.device) -> None:
    """Have a model for images that declares no prunable layers declare those by the order of its computation, so that
    training, sweep and all that follow agree on them."""
    if hasattr(model, "prunable") or not {"channels", "image_size"} <= about.keys():
        return
    image = torch.zeros(1, about["channels"], about["image_size"], about["image_size"], device=device)
    with suppress(ValueError):  # there are none, which concerns only who asks for them
        model.prunable = list(prunable_layers(model, example=image))  # type: ignore[assignment]


def _check_splits(config: Mapping[str, Any], splits: Sequence[str]) -> None:
    """Raises: ConfigError where the sweep is asked for on splits that hold nothing."""
    asked = config.get("prune", {}).get("splits", splits)  # run bench prunes in its own way
    if not set(asked) & set(splits):
        raise ConfigError(f"prune.splits=[{','.join(asked)}] holds no examples; allowed is {', '.join(splits)}")


def _check_places(config: Mapping[str, Any], model: nn.Module) -> None:
    """Raises: ConfigError where features are to be cut in a model that declares none."""
    if config.get("prune", {}).get("granularity") == "feature" and not feature_places(model):
        name = config["model"]["name"]
        raise ConfigError(f"prune.granularity=feature: model={name} declares no places; allowed is auto, weight, unit")


def settle(config: Mapping[str, Any], foreign: bool = False) -> dict[str, Any]:
    """The configuration with what the machine decides written into it: the precision.

    Args:
        foreign: whether classes outside this package may be named (by the user's own --config-dir).
    """
    check_targets(config, foreign)
    device = resolve_device(config["device"])
    return {**config, "precision": resolve_precision(config["precision"], device)}


def run_hash(config: Mapping[str, Any]) -> str:
    """The settled configuration's identity, with the content of a user's own corpus and the source of own classes."""
    fingerprint = getattr(target(config, "data"), "fingerprint", None)
    with options_of("data"):
        content = fingerprint(**arguments(config, "data")) if fingerprint else None
    return identity(config, content, own_sources(config))


def data_inventory(config: Mapping[str, Any]) -> dict[str, Any]:
    """What tells the user's own data from other data, as far as a quick look does; {} of data sets that are always the
    same."""
    cls, given = target(config, "data"), arguments(config, "data")
    with options_of("data"):
        if hasattr(cls, "inventory"):
            return dict(cls.inventory(**given))
        return {"fingerprint": cls.fingerprint(**given)} if hasattr(cls, "fingerprint") else {}
