"""The parts of the documentation that are read off the code, as Markdown.

A page asks for one by a comment in a line of its own: `<!-- generated: verbs -->`, `recipes`, or
`fields MODULE.CLASS` for the table of a record's fields with their units. Nothing that is made here
is committed, so it cannot fall behind the code.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import inspect
import re
import textwrap
from functools import partial
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from forebear.cli.main import VERBS, make_parser
from forebear.tasks.train.recipe_files import read_recipe, recipes, show

_MARKER = re.compile(r"^<!-- generated: (.+) -->$", re.MULTILINE)
_WIDTH = 88  # characters of a usage line: what a code block of the theme shows without scrolling
_FIELD = re.compile(
    r"    (?P<name>\w+): (?P<type>.+?)(?: = (?P<default>.+?))?(?:  # (?P<meaning>.+))?"
)


def fill(page: str) -> str:
    """A page's text with its generated parts in place of their markers.

    Raises:
        ValueError: a marker asks for something that is not made here.
    """
    return _MARKER.sub(lambda found: _generated(found[1]), page)


def _generated(what: str) -> str:
    kind, _, argument = what.partition(" ")
    if kind == "verbs" and not argument:
        return verbs()
    if kind == "recipes" and not argument:
        return all_recipes()
    if kind == "fields" and argument:
        module, _, name = argument.rpartition(".")
        return fields_table(getattr(importlib.import_module(module), name))
    raise ValueError(f"generated: {what!r}. Expected verbs, recipes or fields MODULE.CLASS.")


def verbs() -> str:
    """A section for each verb: its summary, its usage, an example and its arguments."""
    return "\n".join(_verb(verb) for verb in VERBS)


def _verb(verb: str) -> str:
    parser = make_parser(verb)
    parser.formatter_class = partial(argparse.RawDescriptionHelpFormatter, width=_WIDTH)
    module = importlib.import_module(f"forebear.cli.{verb}")
    usage = textwrap.dedent(parser.format_usage().replace("usage: ", " " * 7, 1)).rstrip()
    lines = [
        f"## forebear {verb}\n\n{module.SUMMARY}\n",
        f"```text\n{usage}\n```\n",
        f"For example:\n\n```console\n$ {module.EXAMPLE}\n```\n",
        f"```{{program}} forebear {verb}\n```\n",
    ]
    named = {"positional arguments", "options"}  # argparse's own titles, which say nothing
    for group in parser._action_groups:
        actions = [one for one in group._group_actions if not isinstance(one, argparse._HelpAction)]
        if actions and group.title not in named:
            lines.append(f"### {verb}: {str(group.title).rstrip(':')}\n")
        lines += [_argument(parser, action) for action in actions]
    return "\n".join(lines)


def _argument(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    formatter = parser._get_formatter()
    names = formatter._format_action_invocation(action)
    if action.option_strings and action.nargs != 0 and action.metavar is None and action.choices:
        names = f"{', '.join(action.option_strings)} {{{','.join(map(str, action.choices))}}}"
    text = formatter._expand_help(action) if action.help else ""
    return f"```{{option}} {names}\n{_sentence(text)}\n```\n"


def _sentence(text: str) -> str:
    """A line of help as Markdown: what looks like markup is escaped."""
    return re.sub(r"([*_<>|`\[\]])", r"\\\1", text)


def all_recipes() -> str:
    """The table of all recipes, then the file of each."""
    lines = ["| recipe | length | network | summary |", "| --- | --- | --- | --- |"]
    for name in recipes():
        recipe = read_recipe(name)
        network = f"`{recipe.network.removesuffix('.toml')}`" if recipe.network else "any"
        lines.append(f"| [`{name}`](#{name}) | {_length(recipe)} | {network} | {recipe.summary} |")
    for name in recipes():
        lines.append(f"\n({name})=\n## {name}\n\n```toml\n{show(name).rstrip()}\n```")
    return "\n".join(lines)


def _length(recipe: Any) -> str:
    if recipe.iterations:
        return f"{recipe.iterations:,} steps"
    return f"{recipe.epochs} epochs" if recipe.epochs else "by the data"


def fields_table(record: type) -> str:
    """The fields of a dataclass: type, default, and meaning with its unit.

    Raises:
        ValueError: a field that is not written in one line of its class.
    """
    hints = get_type_hints(record)
    rows: list[str] = []
    head = "| field | type | default | meaning |\n| --- | --- | --- | --- |"
    parts, found = [head], set()
    above, blank = "", False
    for line in inspect.getsource(record).splitlines():
        field = _FIELD.fullmatch(line)
        if line.startswith("    # ") and blank:  # a comment after a blank line heads a group
            parts += [*rows, f"\n**{line.strip(' #')}**\n", head]
            rows = []
        elif line.startswith("    # "):  # any other is about the field below it
            above += f"{line.strip(' #')} "
            continue
        elif field and field["name"] in {one.name for one in dataclasses.fields(record)}:
            rows.append(_row(field, hints[field["name"]], above))
            found.add(field["name"])
        above, blank = "", not line.strip()
    missing = {one.name for one in dataclasses.fields(record)} - found
    if missing:
        raise ValueError(f"{record.__name__}: {', '.join(sorted(missing))}: expected in one line.")
    text = "\n".join([*parts, *rows])
    return text.replace(f"{head}\n\n**", "**", 1) if text.startswith(f"{head}\n\n**") else text


def _row(field: re.Match[str], hint: Any, above: str) -> str:
    default = "required" if field["default"] is None else f"`{_default(field['default'])}`"
    meaning = f"{above}{field['meaning'] or ''}".strip()
    cells = (f"`{field['name']}`", _type(hint), default, _sentence(meaning))
    return f"| {' | '.join(cells)} |"


def _default(text: str) -> str:
    found = re.search(r"default=([^,)]+)", text) if text.startswith("field(") else None
    return found[1] if found else text


def _type(hint: Any) -> str:
    """A type in words that fit a table: choices one by one, None left out."""
    if get_origin(hint) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(hint))
    parts = [one for one in get_args(hint) if one is not NoneType]
    if parts and NoneType in get_args(hint):
        return ", ".join(_type(one) for one in parts)
    if get_origin(hint) is None and isinstance(hint, type):
        return f"`{hint.__name__}`"
    return f"`{_plain(str(hint))}`"


def _plain(text: str) -> str:
    return re.sub(r"\b(?:\w+\.)+(?=\w)", "", text).replace("|", "or")
