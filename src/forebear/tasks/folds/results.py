"""The results of a cross-validation: of each fold, their mean and spread, and of all images."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forebear.tasks.folds.out_of_fold import AnyOutOfFold, LabelsOutOfFold, OutOfFold

TITLES: Mapping[str, str] = {
    "top1": "top-1 accuracy",
    "mAP": "mAP",
    "balanced": "balanced accuracy",
    "macro_f1": "macro-F1",
    "micro_f1": "micro-F1",
    "exact_match": "exact matches",
    "test_top1": "test accuracy",
    "test_mAP": "test mAP",
}
_TESTED = {"test_accuracy": "test_top1", "test_mAP": "test_mAP"}  # names in the card of a network


@dataclass(frozen=True, slots=True)
class FoldResult:
    """What was measured of one fold."""

    number: int
    folder: Path
    images: int  # that validated
    measures: Mapping[str, float]  # 0 to 1, by the names of TITLES


@dataclass(frozen=True, slots=True)
class Summary:
    """One measure over all folds, 0 to 1."""

    name: str  # of TITLES
    values: tuple[float, ...]  # of each fold
    mean: float
    deviation: float  # sample standard deviation, with folds - 1 in the denominator


@dataclass(frozen=True, slots=True, eq=False)
class CrossValidation:
    """A finished cross-validation."""

    folder: Path
    data: str  # the spec of the data set
    by: str  # groups that stayed together; "" if there were none
    folds: tuple[FoldResult, ...]
    predictions: AnyOutOfFold
    left_out: int = 0  # images that cannot be decoded

    @property
    def summaries(self) -> list[Summary]:
        """Each measure that all folds have."""
        found = []
        for name in TITLES:
            values = tuple(fold.measures[name] for fold in self.folds if name in fold.measures)
            if len(values) == len(self.folds):
                mean = statistics.fmean(values)
                found.append(Summary(name, values, mean, statistics.stdev(values)))
        return found

    def as_json(self) -> dict[str, Any]:
        """The results as folds.json has them."""
        return {
            "results": [
                {"fold": one.number, "run": one.folder.name, "images": one.images, **one.measures}
                for one in self.folds
            ],
            "mean": {one.name: one.mean for one in self.summaries},
            "standard_deviation": {one.name: one.deviation for one in self.summaries},
            "out_of_fold": self.predictions.measures(),
            **self._labels(),
            "images": self.predictions.images,
            "left_out": self.left_out,
        }

    def _labels(self) -> dict[str, Any]:
        """What was measured of each label, if the images are multi-label."""
        if not isinstance(self.predictions, LabelsOutOfFold):
            return {}
        rows = [row._asdict() for row in self.predictions.per_label()]
        for row in rows:
            if math.isnan(row["average_precision"]):  # JSON has no NaN
                row["average_precision"] = None
        return {"labels": rows}


def fold_result(
    number: int, folder: Path, found: AnyOutOfFold, metrics: Mapping[str, Any]
) -> FoldResult:
    """Returns what was measured of a fold.

    Args:
        number: Of the fold.
        folder: Of its run.
        found: The predictions for the images of all folds.
        metrics: Of the card of its network, which knows the result on a test set.
    """
    tested = {
        title: metrics[name] for name, title in _TESTED.items() if type(metrics.get(name)) is float
    }
    images = int((found.answered & (found.folds == number)).sum())
    return FoldResult(number, folder, images, found.measures(number) | tested)


def most_confused(found: OutOfFold, count: int) -> Sequence[tuple[str, str, int]]:
    """Returns the pairs of classes with most mistakes: true class, predicted class, images."""
    cells = found.confusion
    pairs = [
        (int(cells[true, guess]), true, guess)
        for true, guess in zip(*cells.nonzero(), strict=True)
        if true != guess
    ]
    pairs.sort(key=lambda pair: (-pair[0], pair[1], pair[2]))
    return [
        (found.classes[true], found.classes[guess], images) for images, true, guess in pairs[:count]
    ]
