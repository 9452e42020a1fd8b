"""The training loop. It can be resumed at any step, and interruptions do not change the result.

All randomness in step s is determined by (seed, s): batches use their own generators, and torch's global generators,
which dropout uses, are seeded before every step. Therefore a checkpoint contains no generator state.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from runner.dropout.base import Variant
from runner.errors import damaged
from runner.interfaces import Data, Schedule, Task, TrainBatches
from runner.processes import ALONE, OneProcess
from runner.regularizers import NoRegularizer
from runner.runs import Run
from runner.seeding import derive_seed
from runner.training import checkpoint
from runner.training.callbacks import Callback, not_finite
from runner.training.machine import autocast, seed_generators


@dataclass
class Training:
    """The components and the state of a training run. Call `attach` before the first step.

    Args:
        model: the plain model, to which no variant is attached.
        data: object with train_batches(batch_size, seed), eval_batches(split) and splits.
        task: object with training_loss(model, batch), validate(model, batches) and metrics.
        schedule: object with optimizer(groups), rate(step, total) and clip_norm.
        steps: total number of training steps.
        groups: the optimiser's parameter groups of the plain model, see `decay_groups`.
        step: number of completed steps; training can begin at a later step than 0.
        processes: the processes that share the training.
    """

    model: nn.Module
    variant: Variant
    data: Data[Any]
    task: Task[Any]
    schedule: Schedule
    batches: TrainBatches[Any]
    steps: int
    groups: list[dict[str, Any]]
    seed: int
    device: torch.device
    precision: str
    examples_per_step: int
    regularizer: NoRegularizer = field(default_factory=NoRegularizer)
    limit: int | None = None  # maximum number of examples of a split to evaluate
    compile: bool = False
    step: int = 0
    seconds: float = 0.0  # time spent on training and validation, without interruptions
    epoch_began: float = 0.0  # value of `seconds` at the beginning of the epoch
    sums: dict[str, Tensor] = field(default_factory=dict)  # over the examples of this epoch
    examples: int = 0  # in the last step
    callbacks: Sequence[Callback] = ()
    callback_states: dict[str, Any] = field(default_factory=dict)  # from a checkpoint, for the callbacks of `fit`
    processes: OneProcess = ALONE

    def attach(self) -> "Training":
        """Attach the regularizer and the variant to the model, and create the optimiser for all parameters."""
        self.regularizer.attach(self.model)
        self.variant.processes = self.processes
        self.variant.attach(self.model)
        known = {id(parameter) for group in self.groups for parameter in group["params"]}
        # The variant's own parameters, such as gates, have no weight decay.
        self.groups[-1]["params"] += [p for p in self.model.parameters() if id(p) not in known]
        self.optimizer = self.schedule.optimizer(self.groups)
        self._network = cast(nn.Module, torch.compile(self.model)) if self.compile else self.model
        self.forward = self.processes.join(self._network)
        return self

    def skip_to(self, step: int, steps: int | None = None) -> None:
        """Jump to another step without training up to it, and optionally change the total number of steps."""
        self.step = step
        self.steps = self.steps if steps is None else steps

    @property
    def ends_epoch(self) -> bool:
        """Whether the last step ended an epoch or the training run."""
        return self.step % self.batches.steps_per_epoch == 0 or self.step == self.steps

    def fit(self, callbacks: Sequence[Callback] = ()) -> None:
        """Train from the current step to the end.

        Args:
            callbacks: called after steps and epochs, in this order.

        Raises:
            UserError: raised by a callback, for example if the loss is not finite.
        """
        self.callbacks = callbacks
        self._clock = time.monotonic()
        try:
            with self.processes.guarded():
                self._fit(callbacks)
        finally:
            for callback in callbacks:
                callback.on_end(self)

    def _fit(self, callbacks: Sequence[Callback]) -> None:
        for callback in callbacks:
            if callback.key in self.callback_states:
                callback.load_state_dict(self.callback_states[callback.key])
            callback.on_start(self)
        while self.step < self.steps:
            self.examples = self.one_step()
            self._count_time()
            for callback in callbacks:
                callback.on_step(self)
            if self.ends_epoch:
                self.processes.check_alike()
                row = self._epoch_row()
                self.sums, self.epoch_began = {}, self.seconds
                for callback in callbacks:
                    callback.on_epoch(self, row)

    def one_step(self) -> int:
        self.model.train()
        seed_generators(derive_seed(self.seed, "step", self.step), self.device)
        self.variant.before_step(self.step, self.steps)
        rate = self.schedule.rate(self.step, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batch = self.processes.own_rows(self.batches.batch(self.step))
        with autocast(self.precision, self.device):
            loss, metrics, examples = self.variant.training_loss(self.task, self.forward, batch)
        penalty = self.variant.penalty() + self.regularizer.penalty()
        sums = self._sums(loss, penalty, metrics, examples)
        self.optimizer.zero_grad(set_to_none=True)
        (self.processes.share_of(loss, examples, sums["examples"]) + penalty).backward()
        self.variant.after_backward(self.optimizer)
        if self.schedule.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.schedule.clip_norm)
        self.optimizer.step()
        for name, value in sums.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value.float()
        self.step += 1
        return self.processes.rows_of_all(examples)

    def _sums(
        self, loss: Tensor, penalty: Tensor | float, metrics: Mapping[str, Tensor], examples: int
    ) -> dict[str, Tensor]:
        """Return sums over the examples of a step: loss, penalty, the task's metrics and the number of examples."""
        own = {"loss": loss.detach() * examples, "penalty": torch.as_tensor(penalty).detach() * examples, **metrics}
        return self.processes.summed({**own, "examples": torch.tensor(float(examples))})

    def averages(self) -> dict[str, float]:
        """Return means over the examples of this epoch so far: loss, penalty and the task's metrics."""
        examples = float(self.sums["examples"])
        return {name: float(total) / examples for name, total in self.sums.items() if name != "examples"}

    def check_finite(self) -> None:
        """Raise a UserError if the loss, with its penalty, is not finite in this epoch so far. Waits for the device."""
        loss = float(self.sums["loss"] + self.sums["penalty"])
        if not math.isfinite(loss):
            raise not_finite("loss", loss, self.step, self.steps)

    def _count_time(self) -> None:
        now = time.monotonic()
        self.seconds += now - self._clock
        self._clock = now

    def _epoch_row(self) -> dict[str, Any]:
        row: dict[str, Any] = {
            "epoch": math.ceil(self.step / self.batches.steps_per_epoch),
            "step": self.step,
            "learning_rate": self.schedule.rate(self.step - 1, self.steps),
            **{f"train_{name}": value for name, value in self.averages().items()},
            "examples_per_second": round(float(self.sums["examples"]) / (self.seconds - self.epoch_began), 1),
        }
        if "validation" in self.data.splits and self.processes.first:
            row |= {f"validation_{name}": value for name, value in self.evaluate("validation").items()}
            row.pop("validation_examples")
        self._count_time()
        row["seconds"] = round(self.seconds, 2)
        return row

    def evaluate(self, split: str) -> dict[str, float]:
        """Return the task's metrics on a split. Targeted variants prune in evaluation mode."""
        self.model.eval()
        with autocast(self.precision, self.device):
            return self.task.validate(self._network, self.data.eval_batches(split, self.limit))

    def state_dict(self) -> dict[str, Any]:
        """Return the state that is needed to resume training."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "epoch_began": self.epoch_began,
            "sums": self.sums,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "variant": self.variant.state_dict(),
            "callbacks": {c.key: state for c in self.callbacks if (state := c.state_dict())},
        }

    def restore(self, run: Run) -> None:
        """Load the run's checkpoint, if there is one.

        Raises:
            DamagedRun: the checkpoint can't be read or belongs to another model.
        """
        state = checkpoint.load(run.checkpoint_file, self.device)
        if state is not None:
            self.resume(state, run.checkpoint_file)

    def resume(self, state: Mapping[str, Any], path: Path) -> None:
        """Load a state returned by `state_dict`. Raises DamagedRun, naming the file, if it belongs to another model."""
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.variant.load_state_dict(state["variant"])
            self.step, self.sums = int(state["step"]), dict(state["sums"])
            self.seconds, self.epoch_began = float(state["seconds"]), float(state["epoch_began"])
            self.callback_states = dict(state.get("callbacks", {}))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise damaged(path, error) from None
