"""Checks of values that come from files: what passes, and what the refusals say."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import pytest

from forebear.tables.checks import (
    check_keys,
    check_words,
    is_count,
    is_line,
    is_number,
    refuse,
    shown,
)


@dataclass(frozen=True, slots=True)
class Small:
    """A record with each kind of field."""

    kind: Literal["a", "b"]
    on: bool
    size: int = 1
    rest: list[int] = field(default_factory=list)


@pytest.mark.parametrize("value", [True, 0, -1, 11, 1.0, "1", None, 10**400, [1]])
def test_no_count_from_1_to_10(value: object) -> None:
    assert not is_count(value, 10)
    assert is_count(1, 10)
    assert is_count(10, 10)
    assert is_count(0, 10, least=0)


@pytest.mark.parametrize("value", [True, math.nan, math.inf, -math.inf, -1.01, 2.1, "1", 10**400])
def test_no_number_from_minus_1_to_2(value: object) -> None:
    assert not is_number(value, -1, 2)
    assert is_number(-1, -1, 2)
    assert is_number(2.0, -1, 2)


@pytest.mark.parametrize("value", ["a\n", "\x1b[31m", "\ud800", "\u202e", "x" * 11, 5, None])
def test_no_line_of_10_characters(value: object) -> None:
    assert not is_line(value, 10)
    assert is_line("é" * 10, 10)


def test_a_value_is_shown_as_one_short_line() -> None:
    assert shown("a\x1b") == r"'a\x1b'"
    assert len(shown(["x"] * 1000)) < 100
    assert shown(1 << 100_000) == "a number of too many digits"


def test_a_refusal_has_three_parts() -> None:
    refuse(True, "rule", "size", 0, "1")
    with pytest.raises(ValueError, match=r"^rule: size=0\. Expected 1\. Correct this value\.$"):
        refuse(False, "rule", "size", 0, "1")


@pytest.mark.parametrize("kind", ["c", 1, None, ["a"], True])
def test_words_other_than_those_of_the_type_are_refused(kind: object) -> None:
    check_words(Small("a", True), "small")
    with pytest.raises(ValueError, match=r"small: kind=.*\. Expected one of a, b\. Correct"):
        check_words(Small(kind, True), "small")  # type: ignore[arg-type]


@pytest.mark.parametrize("on", [1, 0, "true", None])
def test_a_flag_is_true_or_false(on: object) -> None:
    with pytest.raises(ValueError, match=r"small: on=.*\. Expected true or false\. Correct"):
        check_words(Small("a", on), "small")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([1], r"^small=\[1\]: expected a mapping with the keys kind, on, size, rest\."),
        ({"kind": "a", "on": True, "siez": 1}, "the key 'siez' is unknown.*Did you mean size"),
        ({"kind": "a", "on": True, 5: 1}, "small: the key 5 is unknown"),
        ({"kind": "a"}, r"^small: the key 'on' is missing\. Expected a value for it\. Add the key"),
    ],
)
def test_keys_are_those_of_the_record(data: object, message: str) -> None:
    assert check_keys(Small, {"kind": "a", "on": True}, "small") == {"kind": "a", "on": True}
    with pytest.raises(ValueError, match=message):
        check_keys(Small, data, "small")
