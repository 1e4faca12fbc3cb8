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
from collections.abc import Callable
from functools import partial
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from forebear.cli.main import VERBS, make_parser
from forebear.cli.recipes import as_toml, length
from forebear.settings import Setting, settings, topics
from forebear.tasks.train.recipe_files import read_recipe, recipes, show

_MARKER = re.compile(r"^<!-- generated: (.+) -->$", re.MULTILINE)
_WIDTH = 88  # characters of a usage line: what a code block of the theme shows without scrolling
_HEAD = "| field | type | default | meaning |\n| --- | --- | --- | --- |"
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
        lines.append(f"| [`{name}`](#{name}) | {length(recipe)} | {network} | {recipe.summary} |")
    for name in recipes():
        lines.append(f"\n({name})=\n## {name}\n\n```toml\n{show(name).rstrip()}\n```")
    return "\n".join(lines)


def fields_table(record: type) -> str:
    """The fields of a dataclass: type, default, and meaning with its unit.

    Fields with settings are grouped by the record that they come from. For all others the meaning
    is the comment in the field's line, or above it.

    Raises:
        ValueError: a field without settings that is not written in one line of its class.
    """
    if settings(record):
        return _settings_tables(record)
    hints = get_type_hints(record)
    names = {one.name for one in dataclasses.fields(record)}
    rows: dict[str, str] = {}
    above = ""
    for line in inspect.getsource(record).splitlines():
        field = _FIELD.fullmatch(line)
        if line.startswith("    # "):
            above += f"{line.strip(' #')} "
            continue
        if field and field["name"] in names:
            rows[field["name"]] = _row(field, hints[field["name"]], above)
        above = ""
    if names - set(rows):
        missing = ", ".join(sorted(names - set(rows)))
        raise ValueError(f"{record.__name__}: {missing}: expected in one line of the class.")
    return "\n".join([_HEAD, *rows.values()])


def _settings_tables(record: type) -> str:
    python = any(known.optional for known in settings(record).values())  # TOML has no None
    shown = repr if python else as_toml
    tables = {
        title: "\n".join([_HEAD, *(_setting(one, shown) for one in known), ""])
        for title, known in topics(record).items()
    }
    if len(tables) == 1:
        return "".join(tables.values())
    return "\n".join(f"**{title}**\n\n{table}" for title, table in tables.items())


def _setting(known: Setting, shown: Callable[[Any], str]) -> str:
    values = ", ".join(f"`{choice}`" for choice in known.choices) or _type(known.type)
    limits = "" if known.choices else known.range.removeprefix("a number ")
    meaning = [f"{_sentence(known.help)}{'' if known.help.endswith('.') else '.'}"]
    meaning += [f"Only if {_sentence(known.matters_if)}."] if known.matters_if else []
    default = "required" if known.required else f"`{shown(known.default)}`"
    default += f": {known.default_text}" if known.default_text else ""
    kinds = ", ".join(part for part in (values, known.unit, limits) if part)
    return f"| `{known.name}` | {kinds} | {default} | {' '.join(meaning)} |"


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
