"""The results of a cross-validation: of each fold, their mean and spread, and of all images."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forebear.tasks.evaluate import Evaluation
from forebear.tasks.folds.predict import OutOfFold
from forebear.tasks.metrics import Interval, wilson

TITLES: Mapping[str, str] = {
    "top1": "top-1 accuracy",
    "balanced": "balanced accuracy",
    "macro_f1": "macro-F1",
    "test_top1": "test accuracy",
}


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
    predictions: OutOfFold
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

    @property
    def pooled(self) -> dict[str, float]:
        """The measures of all out-of-fold predictions together, 0 to 1."""
        counts = self.predictions.counts
        return {
            "top1": float(counts.hits.sum() / max(counts.images.sum(), 1)),
            "balanced": float(counts.balanced()),
            "macro_f1": float(counts.macro_f1()),
        }

    @property
    def interval(self) -> Interval:
        """Wilson's 95 % interval of the pooled top-1 accuracy."""
        counts = self.predictions.counts
        low, high = wilson(int(counts.hits.sum()), int(counts.images.sum())).tolist()
        return Interval(low, high)

    def as_json(self) -> dict[str, Any]:
        """The results as folds.json has them."""
        return {
            "results": [
                {"fold": one.number, "run": one.folder.name, "images": one.images, **one.measures}
                for one in self.folds
            ],
            "mean": {one.name: one.mean for one in self.summaries},
            "standard_deviation": {one.name: one.deviation for one in self.summaries},
            "out_of_fold": self.pooled,
            "images": int(self.predictions.counts.images.sum()),
            "left_out": self.left_out,
        }


def fold_result(
    number: int, folder: Path, measured: Evaluation, metrics: Mapping[str, Any]
) -> FoldResult:
    """Returns what was measured of a fold.

    Args:
        number: Of the fold.
        folder: Of its run.
        measured: Of its validation images.
        metrics: Of the card of its network, which knows the accuracy on a test set.
    """
    measures = {
        "top1": measured.top1,
        "balanced": measured.balanced,
        "macro_f1": measured.macro_f1,
    }
    tested = metrics.get("test_accuracy")
    if isinstance(tested, float):
        measures["test_top1"] = tested
    return FoldResult(number, folder, measured.images, measures)


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
