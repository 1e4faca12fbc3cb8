"""Makes the arguments of a verb from the settings of a record, so that both say the same."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_origin

from forebear.settings import Setting

_METAVARS = {int: "N", float: "X"}


def add_flags(
    parser: argparse._ActionsContainer,
    known: Iterable[Setting],
    parse: Mapping[str, Callable[[str], Any]] | None = None,
) -> None:
    """Adds an argument for each setting: its name, form, choices, default and help.

    Values out of range are left to the record, which refuses them in one line.

    Args:
        parser: or a group of one.
        known: the settings, in the order of the help.
        parse: functions that read the value of a flag, by the name of the setting, where its type
            does not.
    """
    for one in known:
        words = (one.flag or f"--{one.name.replace('_', '-')}").split()
        form = _form(one, words[1] if len(words) > 1 else _metavar(one))
        if parse and one.name in parse:
            form["type"] = parse[one.name]
        action = parser.add_argument(words[0], dest=one.name, **form)
        action.help = help_text(one)  # afterwards: Python 3.11 adds a default of its own


def help_text(known: Setting) -> str:
    """The help of a setting with its default, as argparse takes it."""
    text = f"{known.help}; repeatable" if _repeats(known) else known.help
    default = _default_text(known)
    return (f"{text} (default: {default})" if default else text).replace("%", "%%")


def _form(known: Setting, metavar: str) -> dict[str, Any]:
    if known.kind is bool:
        switches = known.optional or known.default
        action = argparse.BooleanOptionalAction if switches else "store_true"
        return {"action": action, "default": known.default}
    if _repeats(known):
        return {"action": "append", "default": list(known.default), "metavar": metavar}
    kind = known.kind if isinstance(known.kind, type) else str
    return {"type": kind, "default": known.default, "metavar": metavar}


def _repeats(known: Setting) -> bool:
    return get_origin(known.kind) is tuple


def _metavar(known: Setting) -> str:
    if known.choices:
        return f"{{{','.join(known.choices)}}}"
    return known.unit.upper() or _METAVARS.get(known.kind, "NAME")


def _default_text(known: Setting) -> str:
    """The default as the help shows it; "" for one that goes without saying."""
    if known.default is True:
        return "yes"
    if isinstance(known.default, str):
        return ": ".join(part for part in (known.default, known.default_text) if part)
    shows = not known.default_text and type(known.default) in (int, float)
    return str(known.default) if shows else known.default_text
