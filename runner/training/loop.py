"""The training loop: resumable at any step, the same run however often it was interrupted.

All randomness of step s is a function of (seed, s): the batches draw from generators of their own, and torch's global
generators, which initialisation and dropout use, are seeded anew before every step. So a checkpoint holds no generator.
"""

import logging
import math
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from runner import runs
from runner.dropout.base import Variant
from runner.errors import UserError, damaged
from runner.files import append_row
from runner.regularizers import NoRegularizer
from runner.runs import Run
from runner.seeding import derive_seed
from runner.training import checkpoint
from runner.training.machine import autocast, seed_generators
from runner.training.progress import Progress

log = logging.getLogger("runner")

# A GPU runs ahead of Python; asking for the loss at every step would stop it there.
_STEPS_BETWEEN_LOOKS = {"cpu": 1}
_STEPS_BETWEEN_LOOKS_ELSEWHERE = 20


@dataclass
class Training:
    """What a training needs; `model` is plain when handed over, and `variant` is attached by `fit`.

    Args:
        data: has train_batches(batch_size, seed), eval_batches(split) and splits.
        task: has training_loss(model, batch), validate(model, batches) and metrics.
        schedule: has optimizer(groups), rate(step, total) and clip_norm.
        steps: training steps in all.
        groups: the optimiser's parameter groups of the plain model, see `decay_groups`.
    """

    model: nn.Module
    variant: Variant
    data: Any
    task: Any
    schedule: Any
    batches: Any
    steps: int
    groups: list[dict[str, Any]]
    seed: int
    device: torch.device
    precision: str
    examples_per_step: int
    regularizer: NoRegularizer = field(default_factory=NoRegularizer)
    limit: int | None = None  # how many examples of a split are evaluated
    compile: bool = False
    checkpoint_seconds: float = 180.0
    step: int = 0  # how many are done
    seconds: float = 0.0  # spent on training and validation, interruptions aside
    epoch_began: float = 0.0  # in the same seconds
    sums: dict[str, Tensor] = field(default_factory=dict)  # over the examples of this epoch

    def __post_init__(self) -> None:
        self.regularizer.attach(self.model)
        self.variant.attach(self.model)
        known = {id(parameter) for group in self.groups for parameter in group["params"]}
        # A variant's own parameters, gates and switches, learn without weight decay.
        self.groups[-1]["params"] += [p for p in self.model.parameters() if id(p) not in known]
        self.optimizer = self.schedule.optimizer(self.groups)
        self.forward = torch.compile(self.model) if self.compile else self.model

    def fit(self, run: Run, progress: Progress) -> None:
        """Train to the end from wherever the folder's checkpoint is, writing metrics.csv and checkpoints.

        Raises:
            UserError: the loss is not finite, or the checkpoint is damaged.
        """
        columns = runs.metrics_columns(self.task.metrics)
        runs.cut_metrics(run, columns, self.step)  # rows written after the checkpoint will be written again
        steps_per_epoch = self.batches.steps_per_epoch
        saved = self._clock = time.monotonic()
        with progress.training(self.steps, self.step, steps_per_epoch, self.examples_per_step) as bar:
            while self.step < self.steps:
                examples = self.one_step()
                self._count_time()
                ends = self.step % steps_per_epoch == 0 or self.step == self.steps
                due = time.monotonic() - saved >= self.checkpoint_seconds
                looks = ends or due or self._looks_now()
                if looks:
                    self._check_finite("loss", float(self.sums["loss"] + self.sums["penalty"]))
                bar.advance(examples, self.averages if looks else None)
                if ends:
                    row = self._epoch_row()
                    append_row(run.metrics_file, columns, row)
                    log.info("%s", ", ".join(f"{name} {value:.4g}" for name, value in row.items()))
                    self.sums, self.epoch_began = {}, self.seconds
                if ends or due:
                    self._save(run)
                    saved = time.monotonic()

    def one_step(self) -> int:
        self.model.train()
        seed_generators(derive_seed(self.seed, "step", self.step), self.device)
        self.variant.before_step(self.step, self.steps)
        rate = self.schedule.rate(self.step, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batch = self.batches.batch(self.step)
        with autocast(self.precision, self.device):
            loss, metrics, examples = self.task.training_loss(self.forward, batch)
        penalty = self.variant.penalty() + self.regularizer.penalty()
        self.optimizer.zero_grad(set_to_none=True)
        (loss + penalty).backward()
        self.variant.after_backward(self.optimizer)
        if self.schedule.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.schedule.clip_norm)
        self.optimizer.step()
        self._add(loss=loss.detach() * examples, penalty=torch.as_tensor(penalty).detach() * examples, **metrics)
        self._add(examples=torch.tensor(float(examples)))
        self.step += 1
        return examples

    def _looks_now(self) -> bool:
        return self.step % _STEPS_BETWEEN_LOOKS.get(self.device.type, _STEPS_BETWEEN_LOOKS_ELSEWHERE) == 0

    def _add(self, **values: Tensor) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value.float()

    def averages(self) -> dict[str, float]:
        """Means over the examples of this epoch so far: loss, penalty and the task's metrics."""
        examples = float(self.sums["examples"])
        return {name: float(total) / examples for name, total in self.sums.items() if name != "examples"}

    def _check_finite(self, name: str, loss: float) -> None:
        if not math.isfinite(loss):
            raise UserError(
                f"the {name} is not finite ({loss}) at step {self.step} of {self.steps}; "
                "a smaller schedule.learning_rate or a schedule.clip_norm may help"
            )

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
        if "validation" in self.data.splits:
            row |= {f"validation_{name}": value for name, value in self.evaluate("validation").items()}
            row.pop("validation_examples")
            self._check_finite("validation loss", row["validation_loss"])  # the last step can spoil the weights too
        self._count_time()
        row["seconds"] = round(self.seconds, 2)
        return row

    def evaluate(self, split: str) -> dict[str, float]:
        """The task's metrics of a split; in evaluation targeted variants prune."""
        self.model.eval()
        with autocast(self.precision, self.device):
            return self.task.validate(self.forward, self.data.eval_batches(split, self.limit))

    def _save(self, run: Run) -> None:
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "epoch_began": self.epoch_began,
            "sums": self.sums,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "variant": self.variant.state_dict(),
        }
        checkpoint.save(run.checkpoint_file, state)

    def restore(self, run: Run) -> None:
        """Take over the folder's checkpoint, if there is one.

        Raises:
            DamagedRun: it can't be read, or is another model's.
        """
        state = checkpoint.load(run.checkpoint_file, self.device)
        if state is None:
            return
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.variant.load_state_dict(state["variant"])
            self.step, self.sums = int(state["step"]), dict(state["sums"])
            self.seconds, self.epoch_began = float(state["seconds"]), float(state["epoch_began"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise damaged(run.checkpoint_file, error) from None
