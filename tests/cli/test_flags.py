"""Flags that are read off the settings of a record."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from forebear.cli.flags import add_flags, help_text
from forebear.settings import setting, settings


@dataclass(frozen=True, kw_only=True)
class Record:
    """A record with a field of every kind."""

    name: str | None = setting(None, help="any name", default_text="the first")
    side: int = setting(32, help="length, 10 % more", unit="pixels", least=1)
    rate: float | None = setting(None, help="how fast")
    count: int | None = setting(None, help="how many")
    folder: Path | None = setting(None, help="where", flag="--to FOLDER")
    kind: Literal["round", "square"] | None = setting(None, help="the form")
    mode: Literal["auto", "off"] = setting("auto", help="the mode", default_text="by the time")
    hold_out: bool = setting(False, help="a switch")
    mirror: bool | None = setting(None, help="both ways", default_text="either")
    keep: bool = setting(True, help="on without asking")
    every: int = setting(0, help="between two", unit="steps", flag="--save-every STEPS")
    words: tuple[str, ...] = setting((), help="a word", flag="--word WORD")


def parser(**parse: Any) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser()
    add_flags(made, settings(Record).values(), parse)
    return made


def parsed(*words: str) -> dict[str, Any]:
    return vars(parser().parse_args(list(words)))


def test_the_defaults_are_those_of_the_record() -> None:
    found = parsed()
    assert found.pop("words") == []
    assert found == {name: value for name, value in vars(Record()).items() if name != "words"}


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (("--name", "a"), "name", "a"),
        (("--side", "8"), "side", 8),
        (("--rate", "1"), "rate", 1.0),
        (("--to", "a/b"), "folder", Path("a/b")),
        (("--kind", "round"), "kind", "round"),
        (("--kind", "oval"), "kind", "oval"),  # the record refuses it, in one line
        (("--hold-out",), "hold_out", True),
        (("--no-mirror",), "mirror", False),
        (("--mirror",), "mirror", True),
        (("--no-keep",), "keep", False),
        (("--save-every", "3"), "every", 3),
        (("--word", "a", "--word", "b"), "words", ["a", "b"]),
    ],
)
def test_a_value_has_the_type_of_its_field(words: tuple[str, ...], name: str, value: Any) -> None:
    found = parsed(*words)[name]
    assert found == value
    assert type(found) is type(value)


def test_a_flag_that_is_repeated_leaves_no_words_for_the_next_run() -> None:
    made = parser()
    made.parse_args(["--word", "a"])
    assert made.parse_args([]).words == []


def test_a_value_can_have_a_reader_of_its_own() -> None:
    assert parser(side=len).parse_args(["--side", "four"]).side == 4


def test_the_help_names_flag_value_meaning_and_default() -> None:
    made = parser()
    made.formatter_class = lambda prog: argparse.HelpFormatter(
        prog, max_help_position=50, width=120
    )
    lines = made.format_help().partition("exit\n")[2].splitlines()
    assert [tuple(line.split(None, 2)) for line in lines if " --no-" not in line] == [
        ("--name", "NAME", "any name (default: the first)"),
        ("--side", "PIXELS", "length, 10 % more (default: 32)"),
        ("--rate", "X", "how fast"),
        ("--count", "N", "how many"),
        ("--to", "FOLDER", "where"),
        ("--kind", "{round,square}", "the form"),
        ("--mode", "{auto,off}", "the mode (default: auto: by the time)"),
        ("--hold-out", "a", "switch"),
        ("--save-every", "STEPS", "between two (default: 0)"),
        ("--word", "WORD", "a word; repeatable"),
    ]
    known = settings(Record)
    assert help_text(known["mirror"]) == "both ways (default: either)"
    assert help_text(known["keep"]) == "on without asking (default: yes)"
