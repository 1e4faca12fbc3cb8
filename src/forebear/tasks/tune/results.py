"""The results of a search, and the files that hold them."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from forebear.files import write_text
from forebear.tasks.runs.choosing import MEASURES, Measure, Metric
from forebear.tasks.runs.layout import LOCK
from forebear.tasks.runs.read import read_run

State = Literal["complete", "pruned", "time", "failed"]

TRIALS, TABLE, RECIPE, BEST_RUN = "trials.json", "trials.csv", "recipe.toml", "best"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One run of a search."""

    number: int
    values: Mapping[str, Any]  # of the searched fields; empty for the unchanged recipe
    state: State  # pruned: ended at a rung; time: the time of the search was over
    metric: float | None  # the best of its evaluations; None if it has none
    epochs: float
    ended: float  # seconds of the search when it ended
    seconds: float
    folder: str  # name of its run folder, in the folder of the search

    @property
    def changes(self) -> str:
        """The values in one line."""
        text = " ".join(f"{name}={word_of(value)}" for name, value in self.values.items())
        return text or "the unchanged recipe"


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneResult:
    """Result of a search."""

    folder: Path
    metric: Metric
    trials: tuple[Trial, ...]
    winner: Trial  # of the trials that were completed; the unchanged recipe always counts
    validation_images: int
    test: float  # of the winner: top-1 accuracy, or mAP of multi-label images, 0 to 1
    multi_label: bool
    test_images: int

    @property
    def measure(self) -> Measure:
        """The metric that chose the winner."""
        return MEASURES[self.metric]

    @property
    def caveat(self) -> str:
        """Says how much the winner's metric can be trusted."""
        count = len(self.trials)
        if count == 1:
            return "It is the only trial: the unchanged recipe."
        return (
            f"The same {self.validation_images:,} validation images chose it among {count} trials, "
            "so this number is optimistic."
        )

    @property
    def tested(self) -> str:
        """Says what the test set gives."""
        name = "mAP" if self.multi_label else "top-1 accuracy"
        return (
            f"Test set, which chose nothing: {name} {self.test:.2%} of {self.test_images:,} images."
        )


def choose_winner(trials: tuple[Trial, ...], measure: Measure) -> Trial:
    """Returns the best trial among the unchanged recipe and those that were completed.

    Args:
        trials: The first one with a metric and without values is the unchanged recipe.
        measure: Of the trials' metric.
    """
    first = baseline(trials)
    assert first is not None
    known = [one for one in trials if one is first or (one.state == "complete" and one.values)]
    sign = -1 if measure.falls else 1
    return max(
        (one for one in known if one.metric is not None),
        key=lambda one: (sign * (one.metric or 0.0), -one.number),
    )


def baseline(trials: tuple[Trial, ...]) -> Trial | None:
    """Returns the trial of the unchanged recipe, if it was evaluated."""
    return next((one for one in trials if not one.values and one.metric is not None), None)


def write_results(result: TuneResult) -> None:
    """Writes the tables, the winner's recipe and a copy of its run, each of them atomically.

    Raises:
        OSError: A file cannot be written.
    """
    out = result.folder
    whole = asdict(result) | {"folder": str(out), "note": f"{result.caveat} {result.tested}"}
    write_text(out / TRIALS, json.dumps(whole, indent=2, ensure_ascii=False) + "\n")
    write_text(out / TABLE, table(result))
    write_text(out / RECIPE, recipe_text(result))
    partial, best = out / f".{BEST_RUN}.tmp", out / BEST_RUN
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(
        out / result.winner.folder, partial, symlinks=True, ignore=shutil.ignore_patterns(LOCK)
    )
    shutil.rmtree(best, ignore_errors=True)
    partial.rename(best)


def table(result: TuneResult) -> str:
    """Returns the trials as CSV: one a row, with a column for each searched field."""
    names = list(dict.fromkeys(name for one in result.trials for name in one.values))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["trial", "folder", "state", result.measure.column, "epochs", "seconds", *names]
    )
    for one in result.trials:
        metric = "" if one.metric is None else f"{one.metric:.6g}"
        values = [word_of(one.values[name]) if name in one.values else "" for name in names]
        row = [one.number, one.folder, one.state, metric, f"{one.epochs:g}", f"{one.seconds:.1f}"]
        writer.writerow([*row, *values])
    return text.getvalue()


def recipe_text(result: TuneResult) -> str:
    """Returns the winner's recipe as TOML, with every choice made."""
    winner = result.winner
    recipe = read_run(result.folder / winner.folder).part("recipe")
    lines = [f"# {winner.folder} of forebear tune, the best of {len(result.trials)} trials:"]
    lines.append(f"# {winner.changes}")
    lines += [f"{name} = {json.dumps(value)}" for name, value in recipe.items()]
    return "\n".join(lines) + "\n"


def word_of(value: Any) -> str:
    """Returns a value as --set and --search take it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
