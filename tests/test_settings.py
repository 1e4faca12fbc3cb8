from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from forebear.settings import check, in_force, override, setting, settings, topics
from forebear.tasks.train.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Base:
    kind: Literal["round", "square"] = setting("round", help="the form")
    side: int = setting(0, help="its side", unit="pixels", least=0, needs=("kind", "square"))


@dataclass(frozen=True, kw_only=True)
class Record(Base):
    rate: float = setting(help="must be given", above=0)
    fraction: float = setting(0.5, help="a fraction", least=0, below=1, off=0.5)
    every: int = setting(1, help="of the fraction", least=1, off=1, needs=("fraction",))
    seed: int = setting(0, help="of all", always=True)


def test_settings_are_read_off_the_fields_of_a_record_and_its_bases() -> None:
    known = settings(Record)
    assert list(known) == ["kind", "side", "rate", "fraction", "every", "seed"]
    assert known["rate"].required
    assert not known["side"].required
    assert (known["side"].default, known["side"].unit, known["side"].type) == (0, "pixels", int)
    assert known["kind"].choices == ("round", "square")
    assert known["side"].matters_if == "kind is square"
    assert known["every"].matters_if == "fraction is set"
    assert known["rate"].matters_if == ""


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kind": "oval"}, "kind='oval': expected one of round, square."),
        ({"side": -1}, "side=-1: expected 0 or more."),
        ({"rate": 0.0}, "rate=0.0: expected a number above 0."),
        ({"rate": float("inf")}, "rate=inf: expected a number above 0."),
        ({"rate": float("nan")}, "rate=nan: expected a number above 0."),
        ({"fraction": 1.0}, "fraction=1.0: expected a number from 0 up to, but not including, 1."),
    ],
)
def test_a_value_out_of_its_range_is_named_with_the_possible_ones(
    given: dict[str, object], said: str
) -> None:
    check(Record(rate=1.0))
    with pytest.raises(ValueError) as raised:  # noqa: PT011 the whole message is compared
        check(Record(**({"rate": 1.0} | given)))  # type: ignore[arg-type]
    leave = "" if "rate" in given else ", or leave it out"
    assert str(raised.value) == f"{said} Pass such a value{leave}."


def test_only_what_has_an_effect_is_in_force() -> None:
    values = {"kind": "round", "side": 3, "rate": 1.0, "fraction": 0.5, "every": 2, "seed": 0}
    assert in_force(Record, values) == {"kind": "round", "rate": 1.0, "seed": 0}
    other = values | {"kind": "square", "fraction": 0.1, "unknown": 1}
    assert in_force(Record, other) == {k: v for k, v in other.items() if k != "unknown"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked for in place of a record."""

    kind: str | None = override(settings(Record)["kind"], default_text="the record's")
    side: int | None = override(settings(Record)["side"], default_text="its own", least=1)
    fraction: bool | None = override(settings(Record)["fraction"], default_text="", help="any")
    part: float | None = setting(None, help="of the whole", above=0, below=1)
    width: float = setting(5.0, help="in between", above=4, below=6)


def test_an_override_has_the_help_unit_range_and_choices_of_what_it_replaces() -> None:
    known = settings(Wish)
    assert (known["kind"].help, known["kind"].choices) == ("the form", ("round", "square"))
    assert (known["side"].help, known["side"].unit) == ("its side", "pixels")
    assert (known["side"].least, known["side"].default_text) == (1, "its own")
    assert (known["fraction"].help, known["fraction"].kind) == ("any", bool)
    assert all(known[name].optional for name in ("kind", "side", "fraction", "part"))
    assert not settings(Record)["kind"].optional
    check(Wish())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kind": "oval"}, "kind='oval': expected one of round, square."),
        ({"side": 0}, "side=0: expected 1 or more."),
        ({"part": 1.0}, "part=1.0: expected a fraction between 0 and 1."),
        ({"part": 0.0}, "part=0.0: expected a fraction between 0 and 1."),
        ({"width": 6.0}, "width=6.0: expected a number between 4 and 6."),
    ],
)
def test_values_of_an_override_are_checked_but_none_is_one(
    given: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011 the whole message is compared
        check(Wish(**given))
    assert str(raised.value) == f"{said} Pass such a value, or leave it out."


def test_the_topics_of_a_record_are_the_records_that_it_is_made_of() -> None:
    found = topics(Recipe)
    assert next(iter(found)) == "What a recipe is, and what it was published for."
    names = [one.name for known in found.values() for one in known]
    assert sorted(names) == sorted(settings(Recipe))
    assert [one.name for one in topics(Wish)["What is asked for in place of a record."]] == [
        "kind", "side", "fraction", "part", "width",
    ]  # fmt: skip
