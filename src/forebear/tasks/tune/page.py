"""The page of a search, which needs no other file but links to the runs.

This module chooses the contents and places the points; page.html.j2 has the markup.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from forebear.files import write_text
from forebear.tasks.html_template import template
from forebear.tasks.runs.choosing import Measure
from forebear.tasks.tune.results import RECIPE, TABLE, Trial, TuneResult, word_of
from forebear.text import elided

WIDTH, HEIGHT = 320, 200  # of a plot, in its own units
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 30  # margins
ROOM = 0.06  # of the values beside the lowest and the highest one, so that no point is on the frame
_TICKS = 2  # steps between the first and the last tick, at least
DECADE = 8.0  # a range in which the largest value is this many times the smallest is logarithmic


@dataclass(frozen=True, slots=True)
class Axis:
    """Values along one side of a plot: numbers, perhaps on a logarithmic scale, or words."""

    low: float
    high: float
    log: bool = False
    words: tuple[str, ...] = ()  # their places are 0, 1, ...

    @classmethod
    def of(cls, values: Sequence[Any], *, log: bool = True) -> Axis:
        """Returns an axis with room for all values.

        Args:
            values: At least one; all of them numbers, or none.
            log: Whether positive numbers of different size may have a logarithmic scale.
        """
        if any(isinstance(one, bool | str) for one in values):
            words = tuple(sorted(set(map(word_of, values))))
            return cls(-0.5, len(words) - 0.5, words=words)
        low, high = float(min(values)), float(max(values))
        if log and low > 0 and high / low >= DECADE:
            room = (high / low) ** ROOM
            return cls(low / room, high * room, log=True)
        if low == high:
            low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
        room = ROOM * (high - low)
        return cls(low - room, high + room)

    def share(self, value: Any) -> float:
        """Returns the place of a value, 0 to 1."""
        place = self.words.index(word_of(value)) if self.words else float(value)
        if self.log:
            return math.log(place / self.low) / math.log(self.high / self.low)
        return (place - self.low) / (self.high - self.low)

    @property
    def ticks(self) -> list[Any]:
        """The values that are written: words, or two to five round numbers."""
        if self.words:
            return list(self.words)
        if self.log:
            return _round_logs(self.low, self.high)
        for power in range(math.floor(math.log10(self.high - self.low)), -400, -1):
            for step in (5 * 10**power, 2 * 10**power, 10**power):
                first, last = math.ceil(self.low / step), math.floor(self.high / step)
                if last - first >= _TICKS:
                    return [at * step for at in range(first, last + 1)]
        return [self.low, self.high]


def _round_logs(low: float, high: float) -> list[float]:
    """Returns powers of ten between two numbers, with multiples of these if they are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1,), (1, 3), (1, 2, 5)):
        found = [one * 10.0**power for power in powers for one in digits]
        inside = [one for one in found if low <= one <= high]
        if len(inside) > _TICKS:
            break
    return inside[:: max(1, len(inside) // 5)]


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot: its title, its points and lines in SVG's coordinates, and its ticks."""

    title: str
    across: list[tuple[float, str]]  # x and text of each tick
    up: list[tuple[float, str]]  # y and text
    points: list[tuple[float, float, str, str]]  # x, y, kind and what the pointer shows
    line: str = ""  # "x,y x,y ..."


def write_page(path: Path, result: TuneResult, data: str) -> None:
    """Writes the page, atomically.

    Args:
        path: File to create or replace.
        result: Of the search.
        data: The data set, as given by the user.

    Raises:
        OSError: The page cannot be written.
    """
    write_text(path, page(result, data))


def page(result: TuneResult, data: str) -> str:
    """Returns the page as HTML; the template escapes all text."""
    measure, winner = result.measure, result.winner
    known = [one for one in result.trials if one.metric is not None]
    fields = list(dict.fromkeys(name for one in known for name in one.values))
    first = known[0]
    return template("forebear.tasks.tune", "page.html.j2", elided).render(
        data=data,
        metric=measure.title,
        best=_text(winner, measure),
        first=_text(first, measure),
        winner=winner,
        caveat=result.caveat,
        tested=result.tested,
        tiles=_tiles(result, first),
        width=WIDTH,
        height=HEIGHT,
        box=(LEFT, TOP, WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM),
        unchanged=_height(first.metric, known),
        plots=[_against_time(known, result), *(_against(name, known, result) for name in fields)],
        rows=[(one, _text(one, measure), _kind(one, winner)) for one in result.trials],
        recipe=RECIPE,
        table=TABLE,
    )


def _tiles(result: TuneResult, first: Trial) -> list[tuple[str, str]]:
    measure = result.measure
    seconds = sum(one.seconds for one in result.trials)
    return [
        (_text(result.winner, measure), f"{measure.title} of the winner, validation"),
        (_text(first, measure), f"{measure.title} of the unchanged recipe, validation"),
        (f"{result.test:.2%}", f"of the winner, {result.test_images:,} test images"),
        (f"{len(result.trials)}", f"trials in {seconds / 60:.1f} minutes"),
    ]


def _against(name: str, known: Sequence[Trial], result: TuneResult) -> Plot:
    """Returns the plot of the metric against a field."""
    with_field = [one for one in known if name in one.values]
    values = [one.values[name] for one in with_field]
    return _plot(name, with_field, values, known, result, log=True)


def _against_time(known: Sequence[Trial], result: TuneResult) -> Plot:
    """Returns the plot of the metric against the time, with the best one so far."""
    minutes = [one.ended / 60 for one in known]
    title = f"minutes; the line is the best {result.measure.title} so far"
    plot = _plot(title, known, minutes, known, result, log=False)
    better = max if result.measure.falls else min  # y grows downwards
    best = list(accumulate((y for _, y, *_ in plot.points), better))
    steps = []
    for at, ((x, *_), y) in enumerate(zip(plot.points, best, strict=True)):
        steps += [f"{x},{best[at - 1]}"] if at else []
        steps.append(f"{x},{y}")
    return Plot(plot.title, plot.across, plot.up, plot.points, " ".join(steps))


def _plot(
    title: str,
    shown: Sequence[Trial],
    values: Sequence[Any],
    known: Sequence[Trial],
    result: TuneResult,
    *,
    log: bool,
) -> Plot:
    across = Axis.of(values, log=log)
    up = Axis.of([one.metric for one in known], log=False)
    measure = result.measure

    def x(value: Any) -> float:
        return round(LEFT + across.share(value) * (WIDTH - LEFT - RIGHT), 1)

    def y(value: float) -> float:
        return _height(value, known)

    points = [
        (x(value), y(one.metric or 0.0), _kind(one, result.winner),
         f"{one.folder}: {_text(one, measure)}, {one.state}, {one.changes}")
        for one, value in zip(shown, values, strict=True)
    ]  # fmt: skip
    return Plot(
        title,
        [(x(one), one if isinstance(one, str) else f"{one:.3g}") for one in across.ticks],
        [(y(one), f"{one:.3g}" if measure.falls else f"{100 * one:.3g}%") for one in up.ticks],
        points,
    )


def _height(value: float | None, known: Sequence[Trial]) -> float:
    """Returns the y of a value of the metric."""
    share = Axis.of([one.metric for one in known], log=False).share(value or 0.0)
    return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)


def _kind(trial: Trial, winner: Trial) -> str:
    if trial == winner:
        return "winner"
    return "complete" if trial.state == "complete" else "ended"


def _text(trial: Trial, measure: Measure) -> str:
    return "" if trial.metric is None else measure.text(trial.metric)
