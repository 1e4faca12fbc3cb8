"""classes.json of a multi-label run folder: what the last evaluation measured of each label.

The page shows it as a table. `forebear.tasks.runs.class_table` is the same for one class an image.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebear.files import write_text
from forebear.tasks.metrics import Interval
from forebear.tasks.runs.class_table import interval_in, number_in
from forebear.tasks.runs.layout import CLASSES
from forebear.untrusted import read_json

if TYPE_CHECKING:
    from forebear.tasks.label_evaluation import LabelEvaluation

_TASK = "multi-label"
_MEASURES = ("mAP", "micro_f1", "macro_f1", "exact_match")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelLine:
    """One label of a run."""

    name: str
    train: int  # training images that have it
    images: int  # validation images that have it
    predicted: int  # validation images that were given it
    average_precision: float | None  # 0 to 1; None if no validation image has the label
    f1: float  # 0 to 1, at the threshold, as are precision and recall
    precision: float
    recall: float
    threshold: float  # probability from which an image is given the label


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelTable:
    """The labels of a run after an evaluation."""

    epoch: float  # passes over the training images by then
    images: int  # validation images that were evaluated
    intervals: dict[str, Interval]  # 95 %, of mAP, micro_f1, macro_f1 and exact_match
    measures: dict[str, float]  # of the same names, 0 to 1
    labels: tuple[LabelLine, ...]  # in the order of the logits

    @property
    def worst_first(self) -> list[LabelLine]:
        """The labels by rising average precision; those without validation images come last."""
        return sorted(
            self.labels,
            key=lambda row: (row.average_precision is None, row.average_precision or 0.0),
        )


def label_table(evaluation: LabelEvaluation, train: Sequence[int], epoch: float) -> LabelTable:
    """Returns the table of an evaluation.

    Args:
        evaluation: Of the validation images.
        train: Training images that have each label.
        epoch: Passes over the training images so far.
    """
    rows = []
    for row, count in zip(evaluation.per_label(), train, strict=True):
        own = row._asdict()
        if math.isnan(row.average_precision):
            own["average_precision"] = None
        rows.append(LabelLine(train=int(count), **own))
    values = (evaluation.mean_ap, evaluation.micro_f1, evaluation.macro_f1, evaluation.exact_match)
    return LabelTable(
        epoch=epoch,
        images=evaluation.images,
        intervals=evaluation.intervals()._asdict(),
        measures=dict(zip(_MEASURES, values, strict=True)),
        labels=tuple(rows),
    )


def write_label_table(table: LabelTable, folder: Path) -> None:
    """Writes classes.json, atomically.

    Raises:
        OSError: The file cannot be written.
    """
    text = json.dumps({"task": _TASK, **asdict(table)}, ensure_ascii=False)
    write_text(folder / CLASSES, f"{text}\n")


def read_label_table(folder: Path) -> LabelTable | None:
    """Returns the table in a run folder; None if there is none, or it is of one class an image."""
    try:
        data = read_json(folder / CLASSES)
        if data["task"] != _TASK:
            return None
        return LabelTable(
            epoch=number_in(data["epoch"]),
            images=int(number_in(data["images"])),
            intervals={name: interval_in(data["intervals"][name]) for name in _MEASURES},
            measures={name: number_in(data["measures"][name]) for name in _MEASURES},
            labels=tuple(_line(row) for row in data["labels"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _line(row: Any) -> LabelLine:
    precision = row["average_precision"]
    counts = {name: int(number_in(row[name])) for name in ("train", "images", "predicted")}
    return LabelLine(
        name=str(row["name"]),
        average_precision=None if precision is None else number_in(precision),
        f1=number_in(row["f1"]),
        precision=number_in(row["precision"]),
        recall=number_in(row["recall"]),
        threshold=number_in(row["threshold"]),
        **counts,
    )
