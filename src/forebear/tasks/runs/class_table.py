"""classes.json of a run folder: what the last evaluation measured of each class.

The page shows it as a table, next to the number of training images of each class.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebear.files import write_text
from forebear.settings import MOST
from forebear.tasks.metrics import Interval
from forebear.tasks.runs.layout import CLASSES
from forebear.untrusted import read_json

if TYPE_CHECKING:
    from forebear.tasks.evaluate import Evaluation

_MEASURES = ("top1", "balanced", "macro_f1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassLine:
    """One class of a run."""

    name: str
    train: int  # training images
    images: int  # validation images that were evaluated
    recall: float  # 0 to 1
    recall_interval: Interval  # Wilson's, 95 %
    precision: float  # 0 to 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassTable:
    """The classes of a run after an evaluation."""

    epoch: float  # passes over the training images by then
    intervals: dict[str, Interval]  # 95 %, of top1, balanced and macro_f1
    classes: tuple[ClassLine, ...]  # in the order of the logits

    @property
    def worst_first(self) -> list[ClassLine]:
        """The classes by rising recall, of equal ones the one with more images first.

        Classes without validation images come last.
        """
        return sorted(self.classes, key=lambda row: (not row.images, row.recall, -row.images))


def class_table(evaluation: Evaluation, train: Sequence[int], epoch: float) -> ClassTable:
    """Returns the table of an evaluation.

    Args:
        evaluation: Of the validation images.
        train: Training images of each class.
        epoch: Passes over the training images so far.
    """
    rows = zip(evaluation.per_class(), train, strict=True)
    return ClassTable(
        epoch=epoch,
        intervals=evaluation.intervals()._asdict(),
        classes=tuple(ClassLine(train=int(count), **row._asdict()) for row, count in rows),
    )


def write_class_table(table: ClassTable, folder: Path) -> None:
    """Writes classes.json, atomically.

    Raises:
        OSError: The file cannot be written.
    """
    write_text(folder / CLASSES, f"{json.dumps(asdict(table), ensure_ascii=False)}\n")


def read_class_table(folder: Path) -> ClassTable | None:
    """Returns the table in a run folder; None if there is none, or it is damaged."""
    try:
        data = read_json(folder / CLASSES)
        intervals = {name: interval_in(data["intervals"][name]) for name in _MEASURES}
        rows = tuple(_line(row) for row in data["classes"])
        return ClassTable(epoch=number_in(data["epoch"]), intervals=intervals, classes=rows)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _line(row: Any) -> ClassLine:
    return ClassLine(
        name=str(row["name"]),
        train=int(number_in(row["train"])),
        images=int(number_in(row["images"])),
        recall=number_in(row["recall"]),
        recall_interval=interval_in(row["recall_interval"]),
        precision=number_in(row["precision"]),
    )


def interval_in(ends: Any) -> Interval:
    """Returns an interval that JSON holds as a list of two numbers.

    Raises:
        TypeError, ValueError: It is something else.
    """
    low, high = ends
    return Interval(number_in(low), number_in(high))


def number_in(value: Any) -> float:
    """Returns a number that is not negative and not above `MOST`.

    Raises:
        ValueError: It is something else.
    """
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    if not numeric or not 0 <= value <= MOST:
        raise ValueError("no number")
    return float(value)
