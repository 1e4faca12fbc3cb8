"""The values that a search may try: fields of the recipe, each with a range or with choices."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forebear.errors import near_misses
from forebear.settings import Setting, settings
from forebear.tasks.train.recipe import Recipe
from forebear.text import elided

# Fields that say how long or with what a run is computed: trials with other values are no contest.
FIXED = (
    "summary", "source", "network", "dialect", "epochs", "iterations", "seed", "precision",
    "eval_size",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimension:
    """A field of the recipe and its possible values: a range, or choices."""

    field: str
    low: float = 0.0
    high: float = 0.0  # included
    log: bool = False  # whether values are drawn evenly on a logarithmic scale
    whole: bool = False  # whether values are whole numbers
    choices: tuple[Any, ...] = ()  # empty: a range

    @property
    def extremes(self) -> tuple[str, ...]:
        """The ends of the range, or all choices, as --set takes them."""
        return tuple(map(_word, self.choices or (self.low, self.high)))

    @property
    def text(self) -> str:
        """The dimension as --search takes it."""
        if self.choices:
            return f"{self.field}={','.join(map(_word, self.choices))}"
        return f"{self.field}={self.low:g}..{self.high:g}{':log' if self.log else ''}"


def searchable() -> dict[str, Setting]:
    """Returns the fields of the recipe that a search may change, by name."""
    kinds = (int, float, bool)
    return {
        name: known
        for name, known in settings(Recipe).items()
        if name not in FIXED and (known.kind in kinds or known.choices)
    }


def parse_search(text: str) -> Dimension:
    """Parses FIELD=LOW..HIGH, FIELD=LOW..HIGH:log or FIELD=VALUE,VALUE.

    Raises:
        ValueError: The field is unknown, or a value does not fit it.
    """
    name, sign, values = (part.strip() for part in text.partition("="))
    if not sign or not values:
        raise ValueError(
            f"--search {elided(text)}: no field and values. Expected FIELD=LOW..HIGH, "
            "FIELD=LOW..HIGH:log or FIELD=VALUE,VALUE. Write it as in lr=0.01..0.3:log."
        )
    known = searchable()
    if name not in known:
        raise ValueError(
            f"--search {elided(name)}: not a field that a search can change. Expected one of "
            f"{', '.join(known)}. Choose one.{near_misses(name, known)}"
        )
    if ".." in values:
        return _range(known[name], values)
    choices = tuple(_value(known[name], word.strip()) for word in values.split(","))
    if len(set(choices)) < 2:
        raise _misfit(known[name], values, "two different values or more", "Add another value")
    return Dimension(field=name, choices=choices)


def parse_searches(texts: Sequence[str]) -> tuple[Dimension, ...]:
    """Parses several dimensions.

    Raises:
        ValueError: One does not fit, or a field occurs twice.
    """
    found: dict[str, Dimension] = {}
    for text in texts:
        one = parse_search(text)
        if one.field in found:
            raise ValueError(
                f"--search {one.field}: given twice. Expected each field once. Leave one out."
            )
        found[one.field] = one
    return tuple(found.values())


def _range(known: Setting, text: str) -> Dimension:
    ends, _, scale = text.partition(":")
    if scale not in ("", "log"):
        raise _misfit(known, text, "no scale, or :log", "Write LOW..HIGH:log")
    if known.kind not in (int, float):
        raise _misfit(known, text, known.range or "true or false", "Write FIELD=VALUE,VALUE")
    low, high = (_value(known, end.strip()) for end in ends.split("..", 1))
    if not low < high or (scale and low <= 0):
        wanted = "LOW below HIGH" + (", and LOW above 0" if scale else "")
        raise _misfit(known, text, wanted, "Change the range")
    return Dimension(field=known.name, low=low, high=high, log=bool(scale), whole=known.kind is int)


def _value(known: Setting, word: str) -> Any:
    """Returns a value in the type of the field.

    Raises:
        ValueError: It does not fit.
    """
    if known.choices:
        if word in known.choices:
            return word
        hint = near_misses(word, known.choices)
        raise _misfit(known, word, known.range, f"Choose one of these.{hint}")
    if known.kind is bool:
        if word in ("true", "false"):
            return word == "true"
        raise _misfit(known, word, "true or false", "Write one of these")
    try:
        value = known.kind(word)
    except ValueError:
        kind = "a whole number" if known.kind is int else "a number"
        raise _misfit(known, word, kind, "Correct the value") from None
    if not _within(known, value):
        raise _misfit(known, word, known.range or "a finite number", "Stay within the limits")
    return value


def _within(known: Setting, value: float) -> bool:
    return math.isfinite(value) and not (
        (known.least is not None and value < known.least)
        or (known.most is not None and value > known.most)
        or (known.below is not None and value >= known.below)
        or (known.above is not None and value <= known.above)
    )


def _misfit(known: Setting, found: str, wanted: str, action: str) -> ValueError:
    end = "" if action.endswith(("?", ".")) else "."
    return ValueError(f"--search {known.name}={elided(found)}: expected {wanted}. {action}{end}")


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def idle_fields(space: Sequence[Dimension], recipe: Mapping[str, Any]) -> list[str]:
    """Returns a line for each field of a search that has no effect with a resolved recipe."""
    searched, lines = {one.field for one in space}, []
    for one in space:
        known = settings(Recipe)[one.field]
        other, *wanted = known.needs or ("",)
        if not other or other in searched:
            continue
        value = recipe.get(other)
        if value not in wanted if wanted else not value or value == "none":
            lines.append(
                f"--search {one.field} has no effect: {known.matters_if} is needed, and the recipe "
                f"has {other}={elided(str(value))}"
            )
    return lines


def default_space(recipe: Mapping[str, Any], *, fine_tunes: bool) -> tuple[Dimension, ...]:
    """Returns the fields that matter most, in ranges around a resolved recipe.

    The learning rate matters most (Bengio 2012, arXiv:1206.5533). Kornblith et al. 2019
    (arXiv:1805.08974) fine-tune with a grid of learning rate and weight decay on logarithmic
    scales. Label smoothing of 0 to 0.2 has 0.1, the value of Szegedy et al. 2015
    (arXiv:1512.00567, section 7), in its middle. The widths are forebear's own choice: narrow, as
    the recipe's value is a fair guess.

    Args:
        recipe: Of the first trial, with all choices made.
        fine_tunes: Whether the network starts from weights; then lower learning rates are tried.
    """
    lr, decay = float(recipe["lr"]), float(recipe.get("weight_decay", 0.0))
    below = 10.0 if fine_tunes else 5.0
    space = [Dimension(field="lr", low=lr / below, high=3 * lr, log=True)]
    if decay > 0:  # 0: muon with rescale, which has no weight decay
        space.append(Dimension(field="weight_decay", low=decay / 10, high=10 * decay, log=True))
    space.append(Dimension(field="label_smoothing", low=0.0, high=0.2))
    return tuple(space)
