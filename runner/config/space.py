"""Convert the options varied by `run search` from Hydra's sweep syntax to Optuna's distributions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from runner.config.compose import Composer
from runner.config.rules import show
from runner.errors import ConfigError


@dataclass(frozen=True)
class Space:
    """The search space of one option.

    Args:
        option: the dotted name of the option.
        distribution: Optuna's distribution of the values. Choices are spelled as on the command line.
    """

    option: str
    distribution: BaseDistribution

    def shown(self, value: Any) -> str:
        """Format a value. Floats are rounded to four significant digits, so that names of runs stay readable."""
        if isinstance(self.distribution, FloatDistribution):
            rounded = float(f"{value:.4g}")
            return show(min(max(rounded, self.distribution.low), self.distribution.high))
        return str(value)

    def word(self, value: Any) -> str:
        """Return the override that sets the option to a value."""
        return f"{self.option}={self.shown(value)}"

    @property
    def first(self) -> str:
        """The override that sets the option to its first choice or lowest value."""
        own = self.distribution
        return self.word(own.choices[0] if isinstance(own, CategoricalDistribution) else own.low)  # type: ignore[attr-defined]


def space_of(composer: Composer, overrides: Sequence[str]) -> tuple[list[str], dict[str, Space]]:
    """Separate overrides with values to search from fixed ones.

    Returns:
        The fixed overrides, and the search space of each option by name.

    Raises:
        ConfigError: there is nothing to search, or Optuna does not support a search space.
    """
    fixed, space = [], {}
    for text, parsed in composer.parsed(overrides):
        if parsed.is_sweep_override():
            name = parsed.key_or_group
            try:
                space[name] = Space(name, _distribution(parsed))
            except ValueError as error:
                raise ConfigError(f"{text}: {error}") from None
        else:
            fixed.append(text)
    if not space:
        raise ConfigError(
            "run search needs options to search: 'dropout.alpha=interval(0.1,0.9)', dropout=none,targeted"
        )
    return fixed, space


def _distribution(override: Override) -> BaseDistribution:
    value = override.value()
    if isinstance(value, IntervalSweep):
        low, high, log = value.start, value.end, "log" in value.tags
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, log=log)
        return FloatDistribution(float(low or 0), float(high or 0), log=log)
    if isinstance(value, RangeSweep) and value.start is not None and value.stop is not None:
        if all(isinstance(one, int) for one in (value.start, value.stop, value.step)):
            return IntDistribution(int(value.start), int(value.stop) - 1, step=int(value.step))
        # As many as Hydra has: the end is left out, but (1 - 0) / 0.3 is 4 values and (0.35 - 0.1) / 0.1 is 3.
        number = max(0, math.ceil((value.stop - value.start) / value.step - 1e-9))
        values = [value.start + i * value.step for i in range(number)]
        return CategoricalDistribution([show(round(one, 12)) for one in values])
    if isinstance(value, ChoiceSweep):
        return CategoricalDistribution([str(one) for one in override.sweep_string_iterator()])
    raise ValueError("expected interval(a,b), range(a,b), choice(x,y) or x,y")
