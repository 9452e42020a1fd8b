"""An experiment: the data, task, model, dropout variant and schedule of one configuration.

Training, sweeps, analyses and benchmarks all start from an experiment.
"""

import copy
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import torch
from safetensors.torch import save
from torch import nn

from runner import runs
from runner.checks import (
    check_granularities,
    check_image_sizes,
    check_kinds,
    check_output,
    check_places,
    check_scope,
    check_splits,
)
from runner.compaction.sweep_costs import SweepCosts, forward_arguments
from runner.config import choices
from runner.config.build import build, build_model, options_of, target
from runner.config.length import Length
from runner.data.progressive import ProgressiveBatches
from runner.declaring import declare_layers, declare_places
from runner.dropout.base import Variant
from runner.errors import ConfigError, ParameterError
from runner.files import append_row, write_bytes, write_rows
from runner.interfaces import Data, Task
from runner.models.memory_format import use_fast_memory_format
from runner.processes import ALONE, OneProcess
from runner.pruning.sweep import Point, Sweeper, asked_points, has_batch_norm, with_unpruned
from runner.regularizers import NoRegularizer
from runner.runs import Run
from runner.seeding import derive_seed
from runner.stored import load_initial, load_scores, load_weights
from runner.training.callbacks import Callback, Checkpoint, FiniteLoss, Guarded, MetricsFile, ProgressBar
from runner.training.loop import Training
from runner.training.machine import autocast, resolve_device
from runner.training.progress import Progress
from runner.training.schedules import decay_groups

RECALIBRATED_ON = "augmented images"  # the inputs of the sweep's BatchNorm statistics


@dataclass
class Experiment:
    """The objects named by a configuration, on their device.

    Args:
        model: the network. The variant is attached to it only during training.
        config: the settled configuration (see `runner.running.settle`).
    """

    data: Data[Any]
    task: Task[Any]
    model: nn.Module
    variant: Variant
    device: torch.device
    precision: str
    config: Mapping[str, Any]
    regularizer: NoRegularizer = field(default_factory=NoRegularizer)
    loggers: list[Guarded] = field(default_factory=list)
    callbacks: list[Callback] = field(default_factory=list)  # in addition to those that write the run folder
    processes: OneProcess = ALONE

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Experiment":
        """Build the data, task, model, variant and regularizer. The seed determines the model's initial weights.

        Raises:
            ConfigError: a value is invalid, data is missing, or the choices are incompatible.
        """
        device = resolve_device(config["device"])
        check_kinds(config)
        data = build(config, "data")
        check_splits(config, data.splits)
        check_scope(config)
        if hasattr(data, "fit"):  # resize images to what the model expects
            with options_of("model"):
                data.fit(getattr(target(config, "model"), "minimum_size", 1), config["model"].get("input_size"))
        data.to(device)
        torch.manual_seed(derive_seed(config["seed"], "init"))
        model = build_model(config, **data.model_arguments())
        declare_places(config, model, data.model_arguments())
        check_places(config, model)
        if config.get("init") is not None:
            load_initial(config["init"], model)
        model = use_fast_memory_format(model.to(device))
        task, variant, regularizer = (build(config, group) for group in ("task", "dropout", "regularizer"))
        check_output(config, data, task, model, device)
        check_image_sizes(config, data, model, device)
        declare_layers(model, data.model_arguments(), device)
        check_granularities(config, model)
        return cls(data, task, model, variant, device, config["precision"], config, regularizer)

    def check_teacher(self) -> None:
        """Raise ConfigError if the task needs a teacher network but training begins with random weights."""
        trained = self.config.get("init") is not None or self.config["model"].get("weights") is not None
        if getattr(self.task, "needs_teacher", False) and not trained:
            name = self.config["task"]["name"]
            raise ConfigError(f"task={name} needs a trained network as its teacher: init=FOLDER or FILE")

    def training(self, start_step: int = 0) -> Training:
        """Set up the training of the model, and attach the variant.

        Args:
            start_step: the step to start at, for a model that has already been trained up to that step.

        Raises:
            ConfigError: an option of the schedule or variant is invalid, or the variant applies to none of the layers.
        """
        if getattr(self.task, "needs_teacher", False):
            cast(Any, self.task).teacher = copy.deepcopy(self.model).eval().requires_grad_(False)
        schedule, config = build(self.config, "schedule"), self.config["schedule"]
        with options_of("schedule"):
            batches = self.data.train_batches(config["batch_size"], self.config["seed"])
        steps = Length.parse(config["length"]).steps(batches.steps_per_epoch)
        if config.get("image_sizes"):
            batches = ProgressiveBatches(batches, config["image_sizes"], steps)
        self.regularizer.example = lambda: tuple(tensor.to(self.device) for tensor in self.example())
        training = Training(
            model=self.model,
            variant=self.variant,
            regularizer=self.regularizer,
            data=self.data,
            task=self.task,
            schedule=schedule,
            batches=batches,
            steps=steps,
            groups=decay_groups(self.model, schedule.weight_decay),
            seed=self.config["seed"],
            device=self.device,
            precision=self.precision,
            examples_per_step=batches.examples_per_step,
            limit=self.config.get("limit"),
            compile=self.config["compile"],
            step=start_step,
            processes=self.processes,
        )
        try:
            return training.attach()
        except ParameterError as error:
            raise ConfigError(f"dropout.{error}") from None
        except ValueError as error:  # the model has no layers that the variant applies to
            raise ConfigError(f"dropout={self.config['dropout']['name']}: {error}") from None

    def train(self, run: Run, training: Training) -> None:
        """Finish training, store the weights and the variant's scores, and detach the variant."""
        training.fit(self._callbacks(run))
        self.processes.leave()
        own = {f"{granularity}/{name}": t for granularity, d in self.variant.scores().items() for name, t in d.items()}
        self.variant.detach()
        write_bytes(run.scores_file, save(_plain(own)))
        write_bytes(run.weights_file, save(_plain(self.model.state_dict())))
        seconds = round(training.seconds, 1)
        run.seal(run.weights_file, run.scores_file, trained=True, steps=training.steps, seconds=seconds)
        run.checkpoint_file.unlink(missing_ok=True)  # the weights are final

    def _callbacks(self, run: Run) -> list[Callback]:
        """Return the callbacks: first those that can stop training, last the loggers.

        Exact resumption depends on this order.
        """
        bar = ProgressBar(Progress(unit=getattr(self.task, "example_unit", "img")))
        own = [FiniteLoss(), bar, MetricsFile(run), Checkpoint(run, 60 * self.config["checkpoint_minutes"])]
        return [*own, *self.callbacks, *self.loggers]

    def add_loggers(self) -> None:
        """Create the loggers that the configuration names.

        Raises:
            ConfigError: a logger's parameter is invalid, or its library is not installed.
        """
        made = choices.make_all("logger", self.config.get("loggers"))
        self.loggers = [Guarded(logger, name) for name, logger in made.items()]

    @contextmanager
    def logged(self, run: Run) -> Iterator[None]:
        """Start the loggers, and close them at the end of the context."""
        finished = False
        try:
            for logger in self.loggers:
                logger.begin(run, self.config)
            yield
            finished = True
        finally:
            for logger in self.loggers:
                logger.close(finished)

    def load(self, run: Run, model: nn.Module | None = None) -> None:
        """Load the run's trained weights into `model` (by default the experiment's own), with no variant attached.

        Raises:
            DamagedRun: the weights are missing, unreadable, or those of a different model.
            ConfigError: the weights do not fit, and the data has changed since training.
        """
        load_weights(run, self.model if model is None else model, self.config, self.data.sizes())

    def sweeper(self, own_scores: Mapping[str, Mapping[str, torch.Tensor]]) -> Sweeper:
        """Return a sweeper for the trained model, whose variant must be detached."""
        context = partial(autocast, self.precision, self.device)
        seed, limit = self.config["seed"], self.config.get("limit")
        prune = self.config.get("prune", {})  # run bench has none
        return Sweeper(
            *(self.model, self.task, self.data, context, own_scores, seed, limit),
            granularities=choices.make_all("granularity", prune.get("granularity")),
            criteria=choices.make_all("criterion", prune.get("criterion")),
        )

    def example(self, examples: int = 2) -> tuple[torch.Tensor, ...]:
        """Return the arguments of the model's `forward` for the first examples of the last split, on the CPU."""
        batches = self.data.eval_batches(self.data.splits[-1], examples)
        return forward_arguments(next(iter(batches)), examples)

    def sweep(self, run: Run, progress: Progress) -> None:
        """Evaluate the unpruned network and all points of the configured sweep, and draw pruning.png.

        Points that are already in pruning.csv are skipped.
        """
        asked = asked_points(
            self.config["prune"],
            self.variant.granularities,
            self.variant.floor,
            has_batch_norm(self.model),
            self.data.splits,
            self.variant.scope,
        )
        points = with_unpruned(asked)
        done = run.pruning_rows()
        try:
            keys = {runs.point_key(row) for row in done}
        except KeyError as error:
            raise run.damaged_rows(error) from None
        missing = [point for point in points if runs.point_key(vars(point)) not in keys]
        if missing:
            older = _warn_of_older_rows(run, done)
            sweeper = self.sweeper(load_scores(run, self.device))
            sweeper.keep_samples = partial(_keep_samples, run)
            sweeper.costs = SweepCosts(self.model, self.example)
            columns = runs.pruning_columns(self.task.sweep_metrics)
            run.unseal(run.pruning_file)
            write_rows(run.pruning_file, columns, done)  # drops a line that a crash cut short
            run.write_status(recalibrated_on=None if older else RECALIBRATED_ON)
            with progress.counting(len(missing), "pruning") as advance:
                for point, row in sweeper.rows(missing):
                    append_row(run.pruning_file, columns, {**vars(point), **row})
                    advance()
        floors = {point.granularity: self.variant.floor(point.granularity.partition("(")[0]) for point in points}
        if not run.sealed(run.pruning_file):
            floors = {**run.status().get("floors", {}), **floors}
            run.seal(run.pruning_file, floors=floors, scope=self.variant.scope)
        if missing or not run.pruning_figure.exists():
            from runner.reporting.curves import pruning_figure  # imports Matplotlib and pandas

            pruning_figure(run)
        if self.loggers:
            rows = run.pruning_rows()
            for logger in self.loggers:
                logger.on_sweep(rows, run.pruning_figure)


def _warn_of_older_rows(run: Run, done: Sequence[Mapping[str, str]]) -> bool:
    """Warn if existing rows, from a sweep of format 1, may use different BatchNorm statistics from new rows.

    Returns:
        whether the warning was printed.
    """
    status = run.status()
    known = status.get("format", 1) > 1 or status.get("recalibrated_on") == RECALIBRATED_ON
    older = not known and any(row.get("batch_norm") == "recalibrated" for row in done)
    if older:
        print(
            f"run: {run.pruning_file} was written by an older version, which may have recalibrated BatchNorm on images "
            "without augmentation; delete it, then run prune measures all rows in the same way",
            file=sys.stderr,
        )
    return older


def _plain(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copy tensors to the CPU. Weights may share memory, which safetensors does not allow."""
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


def _keep_samples(run: Run, point: Point, split: str, row: Mapping[str, Any], samples: Sequence[Sequence[str]]) -> None:
    """Append sample outputs on the test split: a heading for the point, then one block of lines per example."""
    if split != "test":
        return
    heading = f"{point.granularity} sparsity {point.pruned:.4g} ({row['actual_sparsity']:.4f} actual)"
    heading += "".join(f", {words}" for words in (point.scope, f"{point.scores} scores", point.batch_norm))
    blocks = ["\n".join(lines) for lines in samples]
    with run.samples_file.open("a", encoding="utf-8") as file:
        file.write(f"== {heading}\n\n" + "\n\n".join(blocks) + "\n\n")
