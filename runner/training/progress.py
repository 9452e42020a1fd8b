"""Progress bars, which are shown on a terminal but not in logs or CI."""

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm


class Bar:
    """A progress bar over all training steps, counted in the task's examples."""

    def __init__(self, bar: "tqdm[Any]", step: int, steps: int, steps_per_epoch: int) -> None:
        self._bar = bar
        self._step = step
        self._steps_per_epoch = steps_per_epoch
        self._epochs = -(-steps // steps_per_epoch)

    def advance(self, examples: int, averages: Callable[[], Mapping[str, float]] | None) -> None:
        """Advance by one step; `averages` is only called if the bar is shown."""
        self._step += 1
        if self._bar.disable:
            return
        epoch = -(-self._step // self._steps_per_epoch)
        self._bar.set_description(f"epoch {epoch}/{self._epochs}", refresh=False)
        if averages is not None:
            shown = {name: f"{value:.3f}" for name, value in averages().items() if name != "penalty" or value}
            self._bar.set_postfix(shown, refresh=False)
        self._bar.update(examples)


class Progress:
    """A factory of progress bars.

    Args:
        bars: whether to show bars. None means that they are shown if standard error is a terminal, except in CI and in
            worker processes.
        unit: name of the unit in which examples are counted.
    """

    def __init__(self, bars: bool | None = None, unit: str = "img") -> None:
        alone = multiprocessing.parent_process() is None
        self.bars = sys.stderr.isatty() and not os.environ.get("CI") and alone if bars is None else bars
        self.unit = unit

    @contextmanager
    def training(self, steps: int, step: int, steps_per_epoch: int, examples_per_step: int) -> Iterator[Bar]:
        with tqdm(
            total=steps * examples_per_step,
            initial=step * examples_per_step,
            unit=self.unit,
            disable=not self.bars,
            dynamic_ncols=True,
            smoothing=0.05,
        ) as bar:
            yield Bar(bar, step, steps, steps_per_epoch)

    @contextmanager
    def counting(self, total: int, what: str) -> Iterator[Callable[..., object]]:
        """Show a bar over `total` equal pieces of work.

        Yields:
            A function to call after each piece, or with the number of pieces completed since the last call.
        """
        with tqdm(total=total, desc=what, disable=not self.bars, dynamic_ncols=True, leave=False) as bar:
            yield bar.update
