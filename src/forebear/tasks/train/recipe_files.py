"""Recipes by name and from files: TOML, one field a line, and what is set in their place."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from forebear.errors import ForebearError, near_misses
from forebear.settings import settings
from forebear.tasks.train.recipe import RENAMED, Recipe, renamed
from forebear.text import elided
from forebear.untrusted import parse_toml, read_text

_log = logging.getLogger(__name__)
_SHIPPED = files("forebear") / "recipes"
_TYPES = get_type_hints(Recipe)


def recipes() -> tuple[str, ...]:
    """The names of the shipped recipes, sorted."""
    names = (entry.name for entry in _SHIPPED.iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml")))


def show(name: str) -> str:
    """The text of a shipped recipe, comments and all: a file to save and to change.

    Raises:
        ValueError: no such recipe.
    """
    if name not in recipes():
        raise ValueError(
            f"recipe {name!r} is unknown. Expected one of {', '.join(recipes())}, or a file "
            f"NAME.toml.{near_misses(name, recipes())}"
        )
    return (_SHIPPED / f"{name}.toml").read_text(encoding="utf-8")


def network_of(recipe: Recipe) -> str:
    """The network that a recipe was published for, as a name or as the path of its table; or ""."""
    if not recipe.network.endswith(".toml"):
        return recipe.network
    return str(_SHIPPED / "networks" / recipe.network)


def read_recipe(name_or_path: str, sets: Sequence[str] = ()) -> Recipe:
    """A shipped recipe by its name, or the recipe in a .toml file.

    Args:
        name_or_path: a file where it ends in .toml.
        sets: "field=value", in place of the file's, with a value as in TOML. Quotes around words
            can be left out, as in lr=0.2, milestones=[30,60] and optimizer=lamb.

    Raises:
        ValueError: an unknown name, or something set that does not fit.
        ForebearError: a file that holds no recipe; the message names the field.
    """
    return read_recipe_fields(name_or_path, sets)[0]


def read_recipe_fields(
    name_or_path: str, sets: Sequence[str] = ()
) -> tuple[Recipe, frozenset[str], frozenset[str]]:
    """The recipe as `read_recipe` gives it, the fields that its file has, and those of `sets`.

    Raises:
        ValueError: an unknown name, or something set that does not fit.
        ForebearError: a file that holds no recipe; the message names the field.
    """
    path = Path(name_or_path) if name_or_path.endswith(".toml") else None
    data = _parsed(show(name_or_path) if path is None else _text(path), name_or_path)
    data = _with_new_names(data, name_or_path)
    given = _given(sets)
    try:
        return recipe_from_dict(data | given), frozenset(data), frozenset(given)
    except ValueError as error:
        if given:
            try:
                recipe_from_dict(data)
            except ValueError:
                pass
            else:
                raise
        raise ForebearError(f"{name_or_path}: {error}") from error


def _text(path: Path) -> str:
    try:
        return read_text(path)
    except (OSError, ValueError) as error:
        raise ForebearError(
            f"{path}: cannot be read ({error}). Expected a recipe, as forebear recipes show prints "
            "one. Check the path."
        ) from error


def _parsed(text: str, where: str) -> dict[str, Any]:
    try:
        return parse_toml(text)
    except ValueError as error:
        raise ForebearError(
            f"{where}: no TOML ({error}). Expected lines such as lr = 0.1. Correct the file."
        ) from error


def _given(sets: Sequence[str]) -> dict[str, Any]:
    """The fields and values of "field=value" words; the last of a field counts."""
    given = {}
    for word in sets:
        name, sign, value = (part.strip() for part in word.partition("="))
        if not sign or not name:
            raise ValueError(f"{word!r} sets nothing. Expected field=value, as in lr=0.2.")
        _known(name)
        given[name] = _value(value)
    return _with_new_names(given, "--set")


def _value(text: str) -> Any:
    """The value of a text as TOML has it, or the text itself where that is a bare word."""
    try:
        data = parse_toml(f"value = {text}")
    except ValueError:
        return text
    return data["value"] if len(data) == 1 else text


def recipe_from_dict(data: Mapping[str, Any]) -> Recipe:
    """The recipe of named values, as TOML or JSON gives them.

    Raises:
        ValueError: an unknown field, one missing, or a value that does not fit.
    """
    values = {name: _fitted(name, value) for name, value in renamed(data).items()}
    for name in ("lr", "schedule"):
        if name not in values:
            raise ValueError(f"{name} is missing. Expected a line {name} = ... in every recipe.")
    return Recipe(**values)


def _with_new_names(values: dict[str, Any], where: str) -> dict[str, Any]:
    """Returns the values under the names of today, and warns about older ones in one line."""
    old = [name for name in values if name in RENAMED]
    if old:
        pairs = ", ".join(f"{name} is now {RENAMED[name]}" for name in old)
        _warn_once(f"{where}: {pairs}")
    return renamed(values)


@cache
def _warn_once(line: str) -> None:
    _log.warning("%s", line)


def _known(name: str) -> None:
    names = list(settings(Recipe))
    if name not in names and name not in RENAMED:
        raise ValueError(
            f"the field {name!r} is unknown. Expected one of {', '.join(names)}."
            f"{near_misses(name, names)}"
        )


def _fitted(name: str, value: Any) -> Any:
    """The value in the field's own type.

    Raises:
        ValueError: an unknown field, or a value of another type; choices are checked later.
    """
    _known(name)
    kind = _TYPES[name]
    if get_origin(kind) is tuple:
        pair = len(get_args(kind)) == 2 and get_args(kind)[1] is not Ellipsis
        if isinstance(value, list) and all(_is_number(one) for one in value):
            return tuple(float(one) for one in value)
        expected = "two numbers, as in [0.5, 1.0]" if pair else "numbers, as in [30, 60]"
    elif kind is bool:
        if isinstance(value, bool):
            return value
        expected = "true or false"
    elif kind is int:
        if _is_number(value) and float(value).is_integer():
            return int(value)
        expected = "a whole number"
    elif kind is float:
        if _is_number(value):
            return float(value)
        expected = "a number"
    else:
        if isinstance(value, str):
            return value
        choices = get_args(kind) if get_origin(kind) is Literal else ()
        expected = f"one of {', '.join(choices)}" if choices else "text"
    raise ValueError(f"{name}={elided(repr(value))}: expected {expected}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
