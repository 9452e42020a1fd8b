"""Checks of constructors' parameters: each gives the value back, or raises a ParameterError that names it."""

from collections.abc import Sequence
from numbers import Integral, Real

from runner.errors import ParameterError


def fraction(name: str, value: float) -> float:
    """A number in [0, 1]."""
    if not isinstance(value, Real) or not 0 <= value <= 1:
        raise ParameterError(name, value, "a number from 0 to 1")
    return float(value)


def proper_fraction(name: str, value: float) -> float:
    """A number in (0, 1)."""
    if not isinstance(value, Real) or not 0 < value < 1:
        raise ParameterError(name, value, "a number between 0 and 1")
    return float(value)


def positive(name: str, value: float) -> float:
    """A number above 0."""
    if not isinstance(value, Real) or not value > 0:
        raise ParameterError(name, value, "a number above 0")
    return float(value)


def not_negative(name: str, value: float) -> float:
    """A number from 0 on."""
    if not isinstance(value, Real) or not value >= 0:
        raise ParameterError(name, value, "a number, 0 or above")
    return float(value)


def whole(name: str, value: int, low: int = 1, of: str = "") -> int:
    """A whole number from `low` on, numpy's too; `of` says what is counted."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < low:
        raise ParameterError(name, value, f"a whole number{of and f' of {of}'}, {low} or above")
    return int(value)


def one_of(name: str, value: str, choices: Sequence[str]) -> str:
    """One of the choices."""
    if value not in choices:
        raise ParameterError(name, value, f"one of {', '.join(choices)}")
    return value
