"""Checks of constructors' parameters: a bad value raises a ParameterError that names it.

A rule stands in the signature, as in `width: Annotated[float, above(0)]`, where `@checked` holds the arguments against
it. The command line reads the same signatures, and so refuses a value before it reads data or builds a network. The
functions here check a single value and give it back.
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
    """A constructor whose arguments are held against the rules in its signature before it runs."""
    signature = inspect.signature(init)

    @functools.wraps(init)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        check_arguments(init, signature.bind(*args, **kwargs).arguments)
        init(*args, **kwargs)

    return wrapper


def check_arguments(init: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Raises: ParameterError for the first argument that its rule in the signature doesn't let pass."""
    for name, rule in rules_of(init).items():
        if name in given:
            required(name, given[name], rule)


@functools.cache
def rules_of(init: Callable[..., Any]) -> dict[str, Rule]:
    """Parameter → rule, of those parameters that have one."""
    try:
        hints = get_type_hints(init, include_extras=True)
    except Exception:  # a user's own, with names that only a type checker resolves
        return {}
    found = {name: getattr(hint, "__metadata__", ()) for name, hint in hints.items()}
    return {name: rule for name, extras in found.items() for rule in extras if callable(rule)}


def required(name: str, value: Any, rule: Rule) -> Any:
    """The value. Raises: ParameterError if the rule doesn't let it pass."""
    if allowed := rule(value):
        raise ParameterError(name, value, allowed)
    return value


def fraction(name: str, value: float) -> float:
    """A number in [0, 1]."""
    return float(required(name, value, rules.between(0, 1)))


def proper_fraction(name: str, value: float) -> float:
    """A number in (0, 1)."""
    return float(required(name, value, rules.inside_unit))


def not_negative(name: str, value: float) -> float:
    """A number of at least 0."""
    return float(required(name, value, rules.at_least(0)))


def whole(name: str, value: int, low: int = 1, of: str = "") -> int:
    """A whole number from `low` on, numpy's too; `of` says what is counted."""
    if rules.whole(low)(value):
        raise ParameterError(name, value, f"a whole number{of and f' of {of}'}, {low} or above")
    return int(value)


def one_of(name: str, value: str, choices: Sequence[str]) -> str:
    """One of the choices."""
    return str(required(name, value, rules.choice(*choices)))
