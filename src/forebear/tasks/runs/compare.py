"""Compares runs: what differs between their recipes, their accuracies, and their cost."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forebear.tasks.runs.plots import Line, draw_comparison
from forebear.tasks.runs.read import Run, read_run

# Fields of a recipe that are not compared: words, and what has a column of its own
_NOT_COMPARED = ("summary", "source", "network", "epochs", "iterations")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One run, as a row of the table."""

    run: Run
    data: int  # runs on the same images in the same split have the same number, from 0
    setting: int  # runs that differ only in their seed have the same number, from 0
    differs: dict[str, Any]  # fields of the recipe that are not equal in all runs

    @property
    def seed(self) -> object:
        """Random seed; None if the run does not say."""
        return self.run.part("recipe").get("seed")

    @property
    def images_per_second(self) -> float:
        """Training speed, the median of the epochs; nan before the first one ends."""
        known = [value for value in self.run.column("images_per_second") if not math.isnan(value)]
        return statistics.median(known) if known else math.nan

    @property
    def minutes(self) -> float:
        """Duration so far, evaluations included; nan before the first epoch ends."""
        return self.run.last("seconds") / 60

    @property
    def last(self) -> float:
        """Validation accuracy, or mAP, after the last epoch, 0 to 1."""
        return self.run.last(self.run.quality.column)

    @property
    def best(self) -> float:
        """Validation accuracy, or mAP, of the best epoch by the run's own metric, 0 to 1."""
        at = self.run.best
        return math.nan if at is None else self.run.column(self.run.quality.column)[at]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Finished runs that differ only in their seed."""

    runs: tuple[Result, ...]
    last: tuple[float, float]  # mean and standard deviation of the last accuracies
    best: tuple[float, float]  # the same of the highest ones


def compare(paths: Sequence[Path]) -> list[Result]:
    """Reads runs, in the order given.

    Raises:
        RunError: A folder is not a run.
    """
    runs = [read_run(path) for path in paths]
    recipes = [run.part("recipe") for run in runs]
    names = dict.fromkeys(
        name for recipe in recipes for name in recipe if name not in _NOT_COMPARED
    )
    differing = [  # older runs lack fields, which does not set them apart
        name
        for name in names
        if len({_key(recipe[name]) for recipe in recipes if name in recipe}) > 1
    ]
    data = _numbers([_key(_images(run)) for run in runs])
    settings = _numbers([_setting(run) for run in runs])
    return [
        Result(
            run=run,
            data=number,
            setting=setting,
            differs={name: recipe[name] for name in differing if name in recipe},
        )
        for run, recipe, number, setting in zip(runs, recipes, data, settings, strict=True)
    ]


def spreads(results: Sequence[Result]) -> list[Spread]:
    """Returns the mean and the standard deviation over the seeds of each setting with several."""
    found = []
    for number in sorted({result.setting for result in results}):
        runs = tuple(one for one in results if one.setting == number and one.run.finished)
        runs = tuple(one for one in runs if not math.isnan(one.last))
        if len({_key(one.seed) for one in runs}) > 1:
            last, best = (_mean([getattr(one, name) for one in runs]) for name in ("last", "best"))
            found.append(Spread(runs=runs, last=last, best=best))
    return found


def draw(results: Sequence[Result], path: Path) -> None:
    """Draws validation accuracy over minutes and over epochs, one line per run, as a PNG.

    Runs of one setting have one colour, and runs on the same images one style of line.

    Raises:
        ForebearError: matplotlib is not installed.
        OSError: The file cannot be written.
    """
    kinds = {result.run.quality.title for result in results}
    title = "Validation mAP" if kinds == {"mAP"} else "Validation accuracy"
    if len(kinds) > 1:
        title += ", or mAP of multi-label images"
    if len({result.data for result in results}) > 1:
        title += (
            "; lines of different styles have different images or splits and cannot be compared"
        )
    settings = [result.setting for result in results]
    lines = [
        _line(result, mark=settings[:at].count(result.setting)) for at, result in enumerate(results)
    ]
    draw_comparison(lines, path, title)


def _line(result: Result, *, mark: int) -> Line:
    run = result.run
    columns = (run.column(name) for name in ("epoch", "seconds", run.quality.column))
    points = [point for point in zip(*columns, strict=True) if not any(map(math.isnan, point))]
    return Line(
        name=str(run.path),
        colour=result.setting,
        dash=result.data,
        mark=mark,
        epochs=[epoch for epoch, _, _ in points],
        minutes=[seconds / 60 for _, seconds, _ in points],
        accuracies=[accuracy for _, _, accuracy in points],
    )


def _images(run: Run) -> Any:
    """Identifies the images and their split, by fingerprint, or by name in runs without one."""
    data = run.part("data")
    return data.get("fingerprint") or [data.get(name) for name in ("spec", "split", "held_out")]


def _setting(run: Run) -> str:
    """Identifies everything that decides a run except its seed. A budget decides the epochs."""
    request = run.part("request")
    budget = request.get("budget")
    recipe = {name: value for name, value in run.part("recipe").items() if name != "seed"}
    if budget:
        recipe.pop("epochs", None)
    # The table's source is prose, which older runs lack.
    table = {name: value for name, value in run.part("table").items() if name != "source"}
    names = ("network", "dialect", "preprocessing", "weights")
    settings = [run.settings.get(name) for name in names]
    settings += [run.measure.column, request.get("patience")]
    return _key([table, *settings, _images(run), recipe, budget])


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _numbers(keys: Sequence[str]) -> list[int]:
    """Returns a number for each key, from 0; equal keys have equal numbers."""
    places = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    return [places[key] for key in keys]


def _mean(values: Sequence[float]) -> tuple[float, float]:
    return statistics.fmean(values), statistics.stdev(values)
