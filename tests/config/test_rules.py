"""Allowed values of options, and the messages for other values."""

import math

import pytest

from runner.config.rules import RULES, check, leaves, show
from runner.errors import ConfigError
from runner.rules import above, at_least, between, either, list_of, one_of, whole

NUMBERLIKE = [True, "0.5", None, [0.5], {"a": 1}, math.nan, math.inf, -math.inf]


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        (between(0, 1), [0, 1, 0.5, 0.0, 1.0], [-0.001, 1.001, *NUMBERLIKE]),
        (between(0, 1, open_end=True), [0, 0.999], [1, 1.0, -1, *NUMBERLIKE]),
        (above(0), [1e-9, 5], [0, -1, *NUMBERLIKE]),
        (at_least(0), [0, 5], [-1e-9, *NUMBERLIKE]),
        (whole(1), [1, 10**30], [0, -1, 1.0, 1.5, *NUMBERLIKE]),
        (one_of("a", "b"), ["a", "b"], ["c", "", None, 1, "A"]),
        (either("auto", between(0, 1)), ["auto", 0, 1], ["Auto", 2, None]),
        (either(None, whole(1)), [None, 1], [0, "null"]),
        (list_of(between(0, 1)), [[0], [0, 0.5, 1]], [[], [2], [0, "a"], 0.5, "abc", None, [[0]]]),
        (list_of(between(0, 1), low=0), [[], [0.5]], [[2], None]),
    ],
)
def test_rules_let_the_good_pass_and_say_what_is_allowed(rule, good, bad):
    assert [value for value in good if rule(value) is not None] == []
    assert [value for value in bad if not rule(value)] == []


def test_what_is_allowed_in_words():
    assert between(0, 1)(2) == "a number from 0 to 1"
    assert between(0, 1, open_end=True)(1) == "a number from 0 to below 1"
    assert whole(1)(0) == "a whole number of at least 1"
    assert either("auto", between(0, 1))(2) == "auto or a number from 0 to 1"
    assert either(None, above(0))(0) == "null or a number above 0"
    assert list_of(one_of("a", "b"))("a") == "a list, [a,b,…], of a, b"
    assert list_of(one_of("a", "b"))(["c"]) == "a list of a, b"


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("device", ["auto", "cpu", "mps", "cuda", "cuda:0", "cuda:12"], ["gpu", "cuda:", "cuda:x", "cpu:0", None, 0]),
        ("schedule.length", ["1ep", "500it"], ["0ep", "-1ep", "ep", "5", 5, "5 ep", "5eps", "1e3it", None]),
        ("folder", [None, "a", "/a/b", 2024], ["", [], True, {"a": 1}]),
        ("outputs", ["a", 2024], [None, "", [], True]),
        ("prune.floor", ["auto", 0, 1, 0.66], [-0.1, 1.1, math.nan, "a"]),
        ("seed", [0, 1, 2**70], [-1, 0.0, "0", True, None]),
    ],
)
def test_rules_of_options(name, good, bad):
    assert [value for value in good if RULES[name](value) is not None] == []
    assert [value for value in bad if not RULES[name](value)] == []


def test_check_names_the_option_the_value_and_what_is_allowed():
    with pytest.raises(ConfigError) as caught:
        check({"schedule": {"batch_size": 1.5}}, {"schedule": {"batch_size": 64}})
    assert str(caught.value) == "schedule.batch_size=1.5: expected a whole number of at least 1"
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("default", "value", "allowed"),
    [
        (True, 1, "true or false"),
        (False, "no", "true or false"),
        (1, "a", "a number"),
        (0.5, True, "a number"),
        ([1], 1, "a list"),
        ("a", [1], "a word"),
    ],
)
def test_without_a_rule_a_value_is_of_its_defaults_kind(default, value, allowed):
    with pytest.raises(ConfigError, match=f"x.y=.*: expected {allowed}"):
        check({"x": {"y": value}}, {"x": {"y": default}})


@pytest.mark.parametrize(
    ("default", "value"), [(1, 0.5), (0.5, 1), ("a", 2024), (None, [1]), (True, False), ([1], []), (1, None)]
)
def test_values_of_the_same_kind_pass(default, value):
    check({"x": {"y": value}}, {"x": {"y": default}})


def test_a_value_that_must_be_given():
    with pytest.raises(ConfigError, match=r"data\.root must be given: data\.root=…"):
        check({"data": {"root": "???"}}, {"data": {"root": "???"}})


def test_a_mapping_in_the_place_of_a_value_is_held_against_the_rule():
    with pytest.raises(ConfigError, match=r"seed=.*: expected a whole number of at least 0"):
        check({"seed": {"a": 1}}, {"seed": 0})


def test_leaves_are_dotted_and_lists_are_one_value():
    assert dict(leaves({"a": 1, "b": {"c": [1, 2], "d": {"e": None}}, "f": {}})) == {
        "a": 1,
        "b.c": [1, 2],
        "b.d.e": None,
    }


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "null"), (True, "true"), (0.5, "0.5"), ([0, [None, "a"]], "[0,[null,a]]"), ("x", "x")]
)
def test_values_are_shown_as_they_are_typed(value, shown):
    assert show(value) == shown
