"""forebear recipes: lists the published training recipes, or prints one, or explains the fields."""

from __future__ import annotations

import argparse
import textwrap
from dataclasses import asdict
from typing import Any

from forebear.cli import output
from forebear.cli.text_table import columns
from forebear.settings import Setting, settings, topics
from forebear.tasks.train.recipe import Recipe
from forebear.tasks.train.recipe_files import read_recipe, recipes, show

SUMMARY = "Lists the published training recipes, prints one as a file, or lists all fields."
EXAMPLE = "forebear recipes show cifar-modern > mine.toml"

_WIDTH = 100  # characters of a line of text
_INDENT = 24  # characters before the meaning of a field


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument(
        "show",
        nargs="?",
        choices=["show", "fields"],
        help="show: print the file of a recipe, to save and edit; fields: list the fields that a "
        "recipe can have, with unit, range and meaning",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="name of the recipe to show")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Prints the table of all recipes, the file of one, or all fields.

    Raises:
        ValueError: The name is missing, unknown or has no effect.
    """
    if args.show is None:
        if args.json:
            output.result_json(_recipes_as_dict())
        else:
            output.result("\n".join(_table()))
    elif args.show == "fields":
        if args.name is not None:
            raise ValueError(
                f"fields with NAME {args.name!r}: expected fields alone, as all recipes have the "
                f"same. Leave it out, or pass show {args.name}."
            )
        if args.json:
            output.result_json(_fields_as_dict())
        else:
            output.result("\n".join(_fields()))
    elif args.name is None:
        raise ValueError(
            f"show without NAME: expected one of {', '.join(recipes())}. Pass one, as in "
            f"{EXAMPLE.partition(' >')[0]}."
        )
    else:
        text = show(args.name)
        if args.json:
            output.result_json(_recipe_as_dict(args.name))
        else:
            output.result(text.removesuffix("\n"))
    return 0


def length(recipe: Recipe) -> str:
    """How long the runs of a recipe are, in words."""
    if recipe.iterations:
        return f"{recipe.iterations:,} steps"
    return f"{recipe.epochs} epochs" if recipe.epochs else "by the data"


def as_toml(value: Any) -> str:
    """A value as the file of a recipe has it."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(as_toml, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    return f"{value:g}" if isinstance(value, float) else str(value)


def _table() -> list[str]:
    rows = [("recipe", "length", "network", "what it is")]
    for name in recipes():
        recipe = read_recipe(name)
        rows.append(
            (name, length(recipe), recipe.network.removesuffix(".toml") or "any", recipe.summary)
        )
    return columns(rows, "<><<")


def _fields() -> list[str]:
    lines: list[str] = []
    for title, known in topics(Recipe).items():
        lines += ["", title] if lines else [title]
        for one in known:
            lines += textwrap.wrap(
                _meaning(one),
                _WIDTH,
                initial_indent=f"  {one.name}".ljust(_INDENT),
                subsequent_indent=" " * _INDENT,
                break_on_hyphens=False,
            )
    return lines


def _meaning(known: Setting) -> str:
    default = "required" if known.required else f"default: {as_toml(known.default)}"
    when = f"only if {known.matters_if}" if known.matters_if else ""
    facts = (known.unit, known.range, default, when)
    return f"{known.help} ({'; '.join(fact for fact in facts if fact)})"


def _recipes_as_dict() -> dict[str, Any]:
    return {"recipes": [{"name": name, **asdict(read_recipe(name))} for name in recipes()]}


def _recipe_as_dict(name: str) -> dict[str, Any]:
    values = asdict(read_recipe(name))
    fields = [{**_as_dict(one), "value": values[one.name]} for one in settings(Recipe).values()]
    return {"name": name, "fields": fields}


def _fields_as_dict() -> dict[str, Any]:
    return {"fields": [_as_dict(one) for one in settings(Recipe).values()]}


def _as_dict(known: Setting) -> dict[str, Any]:
    return {
        "name": known.name,
        "help": known.help,
        "unit": known.unit,
        "range": known.range,
        "choices": known.choices,
        "required": known.required,
        "default": known.default,
        "only_if": known.matters_if,
    }
