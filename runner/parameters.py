"""Checks of constructor arguments. An invalid value raises a ParameterError.

Rules are part of the signature, as in `width: Annotated[float, above(0)]`, and `@checked` applies them to the
arguments. The command line reads the same signatures, so that it rejects an invalid value before it loads data or
builds a network. The other functions check a single value and return it.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ParamSpec, get_type_hints

from runner import rules
from runner.errors import ParameterError
from runner.rules import Rule

P = ParamSpec("P")

Fraction = Annotated[float, rules.between(0, 1)]
ProperFraction = Annotated[float, rules.inside_unit]
BelowOne = Annotated[float, rules.between(0, 1, open_end=True)]
Positive = Annotated[float, rules.above(0)]
NotNegative = Annotated[float, rules.at_least(0)]
Count = Annotated[int, rules.whole(1)]
CountFrom0 = Annotated[int, rules.whole(0)]
Counts = Annotated[Sequence[int], rules.list_of(rules.whole(1))]
CountsOrNone = Annotated[Sequence[int], rules.list_of(rules.whole(1), low=0)]


def checked(init: Callable[P, None]) -> Callable[P, None]:
    """Decorate a constructor so that its arguments are checked against the rules in its signature before it runs."""
    signature = inspect.signature(init)

    @functools.wraps(init)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        check_arguments(init, signature.bind(*args, **kwargs).arguments)
        init(*args, **kwargs)

    return wrapper


def check_arguments(init: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Raise ParameterError for the first argument that violates its rule."""
    for name, rule in rules_of(init).items():
        if name in given:
            required(name, given[name], rule)


@functools.cache
def rules_of(init: Callable[..., Any]) -> dict[str, Rule]:
    """Return the rule of each parameter that has one, by name."""
    try:
        hints = get_type_hints(init, include_extras=True)
    except Exception:  # a user's constructor may have hints with names that only a type checker resolves
        return {}
    found = {name: getattr(hint, "__metadata__", ()) for name, hint in hints.items()}
    return {name: rule for name, extras in found.items() for rule in extras if callable(rule)}


def required(name: str, value: Any, rule: Rule) -> Any:
    """Return the value, or raise ParameterError if it violates the rule."""
    if allowed := rule(value):
        raise ParameterError(name, value, allowed)
    return value


def fraction(name: str, value: float) -> float:
    """Check that the value is a number in [0, 1]."""
    return float(required(name, value, rules.between(0, 1)))


def proper_fraction(name: str, value: float) -> float:
    """Check that the value is a number in (0, 1)."""
    return float(required(name, value, rules.inside_unit))


def not_negative(name: str, value: float) -> float:
    """Check that the value is a number of at least 0."""
    return float(required(name, value, rules.at_least(0)))


def whole(name: str, value: int, low: int = 1, of: str = "") -> int:
    """Check that the value is an integer (NumPy's included) of at least `low`; `of` names what is counted."""
    if rules.whole(low)(value):
        raise ParameterError(name, value, f"a whole number{of and f' of {of}'}, {low} or above")
    return int(value)


def one_of(name: str, value: str, choices: Sequence[str]) -> str:
    """Check that the value is one of the choices."""
    return str(required(name, value, rules.choice(*choices)))
