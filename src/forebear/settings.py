"""Records whose fields carry their own help, unit and range: recipes, and what is read off them.

`setting` declares a field, `override` one that replaces the field of another record, `check`
refuses values out of range, and `settings` lists the fields for command lines, checks of files, and
documentation.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field
from functools import cache
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from forebear.text import elided

_KEY = "forebear"
MOST = 10**9  # of a whole number without a limit of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is known about a field of a record."""

    name: str = ""
    type: Any = None
    choices: tuple[str, ...] = ()  # the possible values of a field of words
    default: Any = None
    default_text: str = ""  # what the default stands for, if the value alone does not say it
    required: bool = False  # whether the field must be given
    flag: str = ""  # on a command line, such as "--save-every STEPS", if not by name and type
    help: str
    unit: str = ""  # such as "pixels" or "epochs"
    least: float | None = None  # the smallest value
    most: float | None = None  # the largest value; None: MOST for whole numbers
    below: float | None = None  # values are less than this
    above: float | None = None  # values are greater than this
    needs: tuple[Any, ...] = ()  # another field and its values for which this one has an effect
    off: Any = None  # a value that changes nothing, in addition to 0, "none" and empty ones
    always: bool = False  # whether 0 is a value like any other

    @property
    def optional(self) -> bool:
        """Whether None is a value."""
        return NoneType in get_args(self.type)

    @property
    def kind(self) -> Any:
        """The type of all values but None."""
        return get_args(self.type)[0] if self.optional else self.type

    @property
    def matters_if(self) -> str:
        """When the field has an effect, in words; "" for always."""
        if not self.needs:
            return ""
        other, *values = self.needs
        return f"{other} is {' or '.join(map(str, values)) or 'set'}"

    @property
    def range(self) -> str:
        """The possible values in words, or "" where any value of the type is one."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.above is not None and self.below is not None:
            noun = "fraction" if (self.above, self.below) == (0, 1) else "number"
            return f"a {noun} between {self.above:g} and {self.below:g}"
        if self.least is not None and self.below is not None:
            return f"a number from {self.least:g} up to, but not including, {self.below:g}"
        if self.least is not None and self.most is not None and self.most <= MOST:
            return f"{self.least:g} to {self.most:,}"
        if self.least is not None:
            return f"{self.least:g} or more"
        return f"a number above {self.above:g}" if self.above is not None else ""


def setting(
    default: Any = MISSING,
    *,
    help: str,
    default_text: str = "",
    flag: str = "",
    unit: str = "",
    least: float | None = None,
    most: float | None = None,
    below: float | None = None,
    above: float | None = None,
    needs: tuple[str, ...] = (),
    off: Any = None,
    always: bool = False,
) -> Any:
    """Declares a field of a dataclass, as `dataclasses.field` does.

    Args:
        default: of the field; without one it must be given.
        help: what the field does, in one line.
        default_text: what the default stands for, if the value alone does not say it.
        flag: on a command line, such as "--save-every STEPS"; without one, by name and type.
        unit: of its value.
        least: the smallest value.
        most: the largest value; without one, MOST for whole numbers.
        below: values must be less than this.
        above: values must be greater than this.
        needs: the name of another field, then those of its values for which this one has an
            effect; the name alone stands for all values that are not off.
        off: a value that changes nothing, in addition to 0, "none" and empty ones.
        always: whether 0 is a value like any other.
    """
    known = Setting(
        help=help,
        default_text=default_text,
        flag=flag,
        unit=unit,
        least=least,
        most=most,
        below=below,
        above=above,
        needs=needs,
        off=off,
        always=always,
    )
    return field(default=default, metadata={_KEY: known})


def override(
    known: Setting,
    *,
    default_text: str | None = None,
    help: str | None = None,
    least: float | None = None,
) -> Any:
    """Declares a field whose value replaces that of another record; None leaves it as it is.

    Args:
        known: the setting of the other record's field, whose help, unit, range and choices count.
        default_text: what None stands for; in place of the other's.
        help: in place of the other's.
        least: in place of the other's.
    """
    changed = dataclasses.replace(
        known,
        default_text=known.default_text if default_text is None else default_text,
        help=known.help if help is None else help,
        least=known.least if least is None else least,
    )
    return field(default=None, metadata={_KEY: changed})


@cache
def settings(record: type) -> Mapping[str, Setting]:
    """Returns what is known about each field of a record, by name, in order."""
    hints = get_type_hints(record)
    return {
        one.name: _with_field(one.metadata[_KEY], one, hints[one.name])
        for one in dataclasses.fields(record)
        if _KEY in one.metadata
    }


def _with_field(known: Setting, one: dataclasses.Field[Any], hint: Any) -> Setting:
    filled = dataclasses.replace(
        known,
        name=one.name,
        type=hint,
        default=None if one.default is MISSING else one.default,
        required=one.default is MISSING,
    )
    if get_origin(filled.kind) is Literal:
        return dataclasses.replace(filled, choices=get_args(filled.kind))
    return filled if filled.kind is str else dataclasses.replace(filled, choices=())


def topics(record: type) -> dict[str, list[Setting]]:
    """Returns the settings of a record by the records that it is made of, whose title is the key.

    The title of a record is the first line of its docstring.
    """
    known = settings(record)
    parts = [one for one in reversed(record.__mro__) if dataclasses.is_dataclass(one)]
    found = {
        str(inspect.getdoc(part)).partition("\n")[0]: [
            known[name] for name in inspect.get_annotations(part) if name in known
        ]
        for part in parts
    }
    return {title: own for title, own in found.items() if own}


def in_force(record: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values that have an effect: not off, and not for another field's other values.

    Args:
        record: whose fields they are.
        values: by name, as JSON has them; names that the record lacks are left out.
    """
    known = settings(record)

    def is_off(name: str) -> bool:
        value = values.get(name)
        if known[name].always:
            return False
        return not value or value == "none" or value == known[name].off

    def matters(name: str) -> bool:
        other, *wanted = known[name].needs or ("",)
        if not other:
            return True
        return values.get(other) in wanted if wanted else not is_off(other)

    return {
        name: values[name]
        for name in known
        if name in values and not is_off(name) and matters(name)
    }


def check(record: Any) -> None:
    """Refuses a record with a value out of its range.

    Raises:
        ValueError: a field has a value that its setting does not allow; the message names both.
    """
    kind: type = type(record)
    for name, known in settings(kind).items():
        value = getattr(record, name)
        if not _fits(known, value):
            leave = "" if known.required else ", or leave it out"
            wanted = known.range or f"a finite number of at most {MOST:,}"
            raise ValueError(
                f"{name}={elided(repr(value))}: expected {wanted}. Pass such a value{leave}."
            )


def _fits(known: Setting, value: Any) -> bool:
    if value is None and known.optional:
        return True
    if known.choices:
        return value in known.choices
    if not isinstance(value, int | float):
        return True
    most = MOST if known.most is None and known.kind is int else known.most
    return math.isfinite(value) and not (
        (known.least is not None and not value >= known.least)
        or (most is not None and not value <= most)
        or (known.below is not None and not value < known.below)
        or (known.above is not None and not known.above < value < float("inf"))
    )
