"""The TensorBoard logger, `loggers=[tensorboard]`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from runner.extras import need
from runner.run_folder import Run
from runner.training.loggers import Logger, sweep_values

if TYPE_CHECKING:
    from runner.training.loop import Training


class TensorBoard(Logger):
    """Write event files to the run folder's tensorboard/. To view them: `tensorboard --logdir outputs`.

    It logs training metrics over steps, metrics of the sweep over the sparsity in thousandths, the sweep's figure, and
    the configuration as text. If resuming a run repeats steps, their values replace the earlier ones.

    Raises:
        ConfigError: TensorBoard is not installed.
    """

    def __init__(self) -> None:
        need("loggers=[tensorboard]", "tensorboard")

    def begin(self, run: Run, config: Mapping[str, Any]) -> None:
        super().begin(run, config)
        self._writer: Any = None

    def _open(self, purge_step: int | None = None) -> Any:
        from torch.utils.tensorboard import SummaryWriter  # importing takes a second

        if self._writer is None:
            self._writer = SummaryWriter(str(self.run.folder / "tensorboard"), purge_step=purge_step)
        return self._writer

    def on_start(self, training: "Training") -> None:
        text = self.run.config_file.read_text()
        indented = "".join(f"    {line}\n" for line in text.splitlines())  # a Markdown code block
        self._open(training.step + 1 if training.step else None).add_text("configuration", indented)

    def on_epoch(self, training: "Training", row: Mapping[str, Any]) -> None:
        for name, value in row.items():
            self._writer.add_scalar(f"training/{name}", value, training.step)
        self._writer.flush()

    def on_sweep(self, rows: Sequence[Mapping[str, str]], figure: Path) -> None:
        writer = self._open()
        for name, thousandths, value in sweep_values(self.run, rows):
            writer.add_scalar(name, value, thousandths)
        with Image.open(figure) as image:
            writer.add_image("pruning", np.asarray(image.convert("RGB")), dataformats="HWC")

    def close(self, finished: bool) -> None:
        if self._writer is not None:
            self._writer.close()
