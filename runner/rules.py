"""Rules for values: functions that return None for an allowed value and otherwise describe the allowed ones.

This module imports nothing else from this package.
"""

import math
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any

Rule = Callable[[Any], str | None]  # a value → None, or a description of the allowed values


def is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def between(low: float, high: float, open_end: bool = False) -> Rule:
    """Return a rule for numbers from `low` to `high`; with `open_end`, `high` is excluded."""

    def rule(value: Any) -> str | None:
        if is_number(value) and low <= value <= high and not (open_end and value == high):
            return None
        return f"a number from {low:g} to {high:g}" if not open_end else f"a number from {low:g} to below {high:g}"

    return rule


def share() -> Rule:
    """Return a rule for numbers above 0 and at most 1."""

    def rule(value: Any) -> str | None:
        return None if is_number(value) and 0 < value <= 1 else "a number above 0, at most 1"

    return rule


def whole(low: int) -> Rule:
    def rule(value: Any) -> str | None:
        fits = isinstance(value, Integral) and is_number(value) and int(value) >= low
        return None if fits else f"a whole number of at least {low}"

    return rule


def above(low: float) -> Rule:
    return lambda value: None if is_number(value) and value > low else f"a number above {low:g}"


def at_least(low: float) -> Rule:
    return lambda value: None if is_number(value) and value >= low else f"a number of at least {low:g}"


def one_of(*choices: str) -> Rule:
    return lambda value: None if value in choices else ", ".join(choices)


def choice(*choices: str) -> Rule:
    """Return the same rule as `one_of`, but worded for errors outside the command line."""
    return lambda value: None if value in choices else f"one of {', '.join(choices)}"


def either(constant: str | None, rule: Rule) -> Rule:
    word = "null" if constant is None else constant

    def both(value: Any) -> str | None:
        allowed = None if value == constant else rule(value)
        return allowed and f"{word} or {allowed}"

    return both


def list_of(rule: Rule, low: int = 1) -> Rule:
    def every(value: Any) -> str | None:
        if not isinstance(value, list | tuple) or len(value) < low:
            one = rule(object())
            return f"a list, [a,b,…], of {one}"
        return next((f"a list of {allowed}" for allowed in map(rule, value) if allowed), None)

    return every


def inside_unit(value: Any) -> str | None:
    return None if is_number(value) and 0 < value < 1 else "a number between 0 and 1"


def is_word(value: Any) -> str | None:
    return None if isinstance(value, str) and value else "a word"


def file_or(rule: Rule) -> Rule:
    """Return a rule for file names and for the values that `rule` allows."""
    return lambda value: (allowed := rule(value)) and is_word(value) and f"a file or {allowed}"


def is_mapping(value: Any) -> str | None:
    return None if isinstance(value, Mapping) else "a mapping, {name: value, …}"


def is_path(value: Any) -> str | None:
    # A number is a valid name, as in outputs=2024.
    fits = isinstance(value, str | int | float) and not isinstance(value, bool) and value != ""
    return None if fits else "a path"
