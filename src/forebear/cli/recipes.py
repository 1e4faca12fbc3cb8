"""forebear recipes: lists the published training recipes, or prints one."""

from __future__ import annotations

import argparse

from forebear.cli.text_table import columns
from forebear.tasks.train.recipe import Recipe
from forebear.tasks.train.recipe_files import read_recipe, recipes, show

SUMMARY = "Lists the published training recipes, or prints one as a file to save and edit."
EXAMPLE = "forebear recipes show cifar-modern > mine.toml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("show", nargs="?", choices=["show"], help="print the file of a recipe")
    parser.add_argument("name", nargs="?", metavar="NAME", help="name of the recipe to print")


def run(args: argparse.Namespace) -> int:
    """Prints the table of all recipes, or the file of one.

    Raises:
        ValueError: The name is missing or unknown.
    """
    if args.show is None:
        print("\n".join(_table()))
    elif args.name is None:
        raise ValueError(
            f"show without NAME: expected one of {', '.join(recipes())}. Pass one, as in "
            f"{EXAMPLE.partition(' >')[0]}."
        )
    else:
        print(show(args.name), end="")
    return 0


def _table() -> list[str]:
    rows = [("recipe", "length", "network", "what it is")]
    for name in recipes():
        recipe = read_recipe(name)
        rows.append(
            (name, _length(recipe), recipe.network.removesuffix(".toml") or "any", recipe.summary)
        )
    return columns(rows, "<><<")


def _length(recipe: Recipe) -> str:
    if recipe.iterations:
        return f"{recipe.iterations:,} steps"
    return f"{recipe.epochs} epochs" if recipe.epochs else "by the data"
