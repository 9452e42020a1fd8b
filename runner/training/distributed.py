"""Training in several processes: PyTorch's DistributedDataParallel, over NCCL on GPUs and gloo elsewhere.

Every process creates the same batch for a step but computes only with its own rows; gradients are averaged. All
processes draw the same random numbers, so that masks of weights are the same in all of them. If random numbers are
drawn for each example (TailDropout, plain dropout), every process draws those of the whole batch and uses those of its
own rows. Training in several processes therefore gives the same result as training in one, except for rounding, because
numbers are added in a different order.
"""

import dataclasses
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from runner.errors import ConfigError, UserError
from runner.processes import ALONE, OneProcess
from runner.training.batch_norm import sum_over_processes, synchronised
from runner.training.machine import resolve_device

LAUNCHED = "RUN_LAUNCHED"  # set by `run train processes=N`, which itself reports processes that have ended
# The other processes wait while the first validates, which may take any time; a process that ends is noticed at once.
_PATIENCE = timedelta(days=365)
_MESSAGES = 2  # sent by the first process before training: what to train, and where to begin
Value = TypeVar("Value")
Batch = TypeVar("Batch")


class Lost(UserError):
    """Raised if another process has ended before training did."""


class Elsewhere(UserError):
    """Raised, without a message, if another process has failed and reports the error itself."""


@contextmanager
def joined(config: Mapping[str, Any]) -> Iterator[OneProcess]:
    """Context manager that joins the processes started together with this one, if any.

    Raises:
        ConfigError: the configuration can't be trained in several processes.
    """
    count, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    if count == 1:
        yield ALONE
        return
    if config["processes"] not in (1, count):
        raise ConfigError(f"processes={config['processes']}: torchrun has started {count}")
    if (size := config["schedule"]["batch_size"]) < count:
        raise ConfigError(f"schedule.batch_size={size}: {count} processes need a batch of {count} or more")
    if config["compile"]:
        raise ConfigError("compile=true: works in one process only")
    device = _device(config["device"], local)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Several(device, config["sync_batch_norm"])
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _device(asked: str, local: int) -> torch.device:
    """Return the device of the process with this local rank."""
    if ":" in asked or (device := resolve_device(asked)).type == "mps":
        raise ConfigError(f"device={asked}: several processes need auto, cpu or cuda")
    if device.type == "cuda":
        if local >= torch.cuda.device_count():
            raise ConfigError(f"device={asked}: {torch.cuda.device_count()} GPUs here, one is needed for each process")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    return device


class Several(OneProcess):
    """One of several processes that train a network together.

    Args:
        device: the device of this process.
        sync_batch_norm: whether BatchNorm normalises by the statistics of the whole batch.
    """

    def __init__(self, device: torch.device, sync_batch_norm: bool) -> None:
        self.rank, self.count = dist.get_rank(), dist.get_world_size()
        self.device = device
        self._sync_batch_norm = sync_batch_norm
        # Messages use gloo, because a process that waits for NCCL keeps its GPU busy.
        nccl = dist.get_backend() == "nccl"
        self._control = dist.new_group(backend="gloo", timeout=_PATIENCE) if nccl else dist.group.WORLD
        self._messages_left = _MESSAGES
        self._changed: list[nn.Module] = []
        self._rows, self._low, self._high, self._filled = 1, 0, 1, True  # of the current batch

    # --- random numbers and sums of a step -----------------------------------------------------------------------

    def drawn(self, draw: Callable[[int], Tensor], rows: int) -> Tensor:
        each, rest = divmod(rows, self._high - self._low)
        if rest:
            raise UserError(
                f"dropout draws {rows} rows, but a process has {self._high - self._low} examples: this can't be "
                "split over several processes; train in one"
            )
        return draw(self._rows * each)[self._low * each : self._high * each]

    def dropped(self, function: Callable[[Tensor, float], Tensor], x: Tensor, p: float) -> Tensor:
        return x * self.drawn(lambda rows: function(x.new_ones(rows, *x.shape[1:]), p), len(x))

    def mean(self, tensor: Tensor) -> Tensor:
        return sum_over_processes(tensor) / self.count

    def mean_of_rows(self, tensor: Tensor) -> Tensor:
        return sum_over_processes(tensor * ((self._high - self._low) / self._rows if self._filled else 0.0))

    # --- the training step ---------------------------------------------------------------------------------------

    def join(self, network: nn.Module) -> nn.Module:
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and self._sync_batch_norm:
                self._change(module, synchronised(module, lambda: self._rows / (self._high - self._low)))
            elif isinstance(module, nn.Dropout):
                self._change(module, self._dropout(module))
        devices = [self.device] if self.device.type == "cuda" else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # older versions do not know the option's new name
            # Buffers are the same in all processes, or only those of the first process are used.
            return DistributedDataParallel(network, device_ids=devices, broadcast_buffers=False)

    def _change(self, module: nn.Module, forward: Callable[[Tensor], Tensor]) -> None:
        module.forward = forward
        self._changed.append(module)

    def _dropout(self, module: nn.Dropout) -> Callable[[Tensor], Tensor]:
        def forward(x: Tensor) -> Tensor:
            return self.dropped(F.dropout, x, module.p) if module.training else x

        return forward

    def own_rows(self, batch: Batch) -> Batch:
        rows = _rows(batch)
        if rows is None:
            raise UserError(
                f"a batch of {type(batch).__name__} can't be split over processes: expected a tensor with one row "
                "per example, or a tuple, list or dataclass of them"
            )
        low, high = (rows * rank // self.count for rank in (self.rank, self.rank + 1))
        # With fewer rows than processes, some have none. They compute with the first row, which is not counted.
        self._filled = low < high
        self._rows, self._low, self._high = rows, *((low, high) if self._filled else (0, 1))
        return _cut(batch, rows, self._low, self._high)

    def summed(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        packed = torch.stack([value.to(self.device, torch.float32) for value in values.values()])
        if not self._filled:
            packed = torch.zeros_like(packed)
        return dict(zip(values, sum_over_processes(packed), strict=True))

    def share_of(self, loss: Tensor, examples: int, total: Tensor) -> Tensor:
        return loss * ((examples if self._filled else 0) * self.count / total)

    def rows_of_all(self, examples: int) -> int:
        return round(examples * self._rows / (self._high - self._low))

    def check_alike(self) -> None:
        number = torch.rand(1, device=self.device)
        numbers = [torch.empty_like(number) for _ in range(self.count)]
        dist.all_gather(numbers, number)
        if len({float(one) for one in numbers}) > 1:
            raise UserError(
                "the processes draw different random numbers: something in the model, the data or the dropout draws "
                "for each example without `processes.drawn`, see docs/distributed.md; train in one process"
            )

    # --- the run -------------------------------------------------------------------------------------------------

    @contextmanager
    def leading(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            if self._messages_left:
                self._broadcast(_FAILED)
            raise

    def tell(self, value: Any) -> None:
        self._messages_left = self._messages_left - 1 if value is not None else 0
        self._broadcast(value)

    def heard(self) -> Any:
        """Return the next message of the first process; None marks the end.

        Raises:
            Elsewhere: the first process has failed.
        """
        with self.guarded():
            value = self._broadcast(None)
        if value == _FAILED:
            raise Elsewhere
        return value

    def _broadcast(self, value: Any) -> Any:
        box = [value]
        dist.broadcast_object_list(box, 0, group=self._control)
        return box[0]

    def together(self, work: Callable[[], Value]) -> Value:
        value: Value | None = None
        own: UserError | None = None
        try:
            value = work()
        except UserError as error:
            own = error
        problems: list[str | None] = [None] * self.count
        with self.guarded():
            dist.all_gather_object(problems, own and str(own), group=self._control)
        failed = [(rank, problem) for rank, problem in enumerate(problems) if problem is not None]
        if not failed:
            return value  # type: ignore[return-value]
        self._messages_left = 0
        if not self.first:
            raise Elsewhere
        raise own or UserError(f"process {failed[0][0]}: {failed[0][1]}")

    @contextmanager
    def guarded(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            if not _lost(error):
                raise
            raise Lost(
                f"process {self.rank} of {self.count}: another process of this training has ended; "
                "the same command resumes from the last checkpoint"
            ) from error

    def leave(self) -> None:
        for module in self._changed:
            del module.forward  # restores the method of the class
        self._changed = []
        with self.guarded():
            dist.barrier(self._control)
        dist.destroy_process_group()


_FAILED = "failed"


def _lost(error: RuntimeError) -> bool:
    """Return whether the error comes from a collective operation rather than from a computation."""
    return isinstance(error, dist.DistError) or any(word in str(error) for word in ("gloo", "Connection", "NCCL"))


def _rows(batch: Any) -> int | None:
    """Return the number of rows of a batch, or None if it is unknown."""
    if isinstance(batch, Tensor):
        return len(batch) if batch.dim() else None
    parts: list[Any] = []
    if isinstance(batch, tuple | list):
        parts = list(batch)
    elif dataclasses.is_dataclass(batch):
        parts = [getattr(batch, field.name) for field in dataclasses.fields(batch)]
    return next((rows for rows in map(_rows, parts) if rows), None)


def _cut(batch: Any, rows: int, low: int, high: int) -> Any:
    """Return rows `low` to `high` - 1 of everything in a batch that has one row per example."""
    if isinstance(batch, Tensor):
        return batch[low:high] if batch.dim() and len(batch) == rows else batch
    if isinstance(batch, tuple | list):
        if len(batch) == rows and not any(isinstance(one, Tensor) for one in batch):
            return batch[low:high]
        parts = [_cut(one, rows, low, high) for one in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        cut = {f.name: _cut(getattr(batch, f.name), rows, low, high) for f in dataclasses.fields(batch)}
        return dataclasses.replace(batch, **cut)
    return batch
