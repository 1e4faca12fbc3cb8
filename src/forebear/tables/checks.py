"""Checks of single values that come from a file, and of the fields of a record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from forebear.errors import near_misses
from forebear.text import truncated


def shown(value: object) -> str:
    """Returns the value as Python writes it, as one short line."""
    try:
        return truncated(repr(value), 80)
    except ValueError:  # an integer of more digits than Python converts
        return "a number of too many digits"


def is_count(value: object, most: int, least: int = 1) -> bool:
    """Whether a value is an integer from `least` to `most`. Booleans are not integers."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def is_number(value: object, least: float, most: float) -> bool:
    """Whether a value is a finite number from `least` to `most`. Booleans are not numbers."""
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return numeric and least <= value <= most  # type: ignore[operator]


def is_line(value: object, most: int) -> bool:
    """Whether a value is a printable string of one line and at most `most` characters."""
    return isinstance(value, str) and value.isprintable() and len(value) <= most


def refuse(fits: bool, where: str, field: str, value: object, expected: str) -> None:
    """Raises a ValueError that names the field, if its value does not fit."""
    if not fits:
        raise ValueError(
            f"{where}: {field}={shown(value)}. Expected {expected}. Correct this value."
        )


def check_words(record: object, where: str) -> None:
    """Checks all fields of a dataclass that are a Literal or a bool.

    Raises:
        ValueError: A field has another value. The message names the field.
    """
    kind: Any = type(record)
    for name, words in _words(kind).items():
        value = getattr(record, name)
        if words:
            fits = isinstance(value, str) and value in words
            refuse(fits, where, name, value, f"one of {', '.join(words)}")
        else:
            refuse(isinstance(value, bool), where, name, value, "true or false")


@cache
def _words(kind: type) -> dict[str, tuple[str, ...]]:
    """Returns {field: its words} of the fields that are a Literal; a bool has no words."""
    return {
        name: get_args(hint)
        for name, hint in get_type_hints(kind).items()
        if hint is bool or get_origin(hint) is Literal
    }


def check_keys(kind: type, data: object, where: str) -> dict[str, Any]:
    """Returns plain data as the arguments of a dataclass.

    Raises:
        ValueError: The data are not a mapping, or a key is unknown or missing.
    """
    known = {field.name: field for field in fields(kind)}
    if not isinstance(data, Mapping):
        raise ValueError(
            f"{where}={shown(data)}: expected a mapping with the keys {', '.join(known)}. "
            "Correct this value."
        )
    for key in data:
        if key not in known:
            raise ValueError(
                f"{where}: the key {shown(key)} is unknown. Expected one of {', '.join(known)}. "
                f"Rename or remove the key.{near_misses(truncated(key), known)}"
            )
    for key, field in known.items():
        if key not in data and field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(
                f"{where}: the key {key!r} is missing. Expected a value for it. Add the key."
            )
    return dict(data)
