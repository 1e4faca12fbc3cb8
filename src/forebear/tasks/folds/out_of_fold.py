"""The out-of-fold predictions of a cross-validation, and what is measured of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from forebear.network.multi_label import MultiLabel
from forebear.tasks.label_metrics import (
    average_precision,
    choose_thresholds,
    count_labels,
    label_intervals,
    mean_of,
)
from forebear.tasks.metrics import ClassCounts, Interval, count_classes, wilson
from forebear.text import one_line

LEFT_OUT = -1  # the prediction for an image that cannot be decoded


@dataclass(frozen=True, kw_only=True, eq=False)
class _Predictions:
    """Predictions for N images, by networks that were not trained on them."""

    classes: tuple[str, ...]  # K classes or labels, of the data set
    folds: NDArray[np.int64]  # [N], 1 to the number of folds
    logits: NDArray[np.float32]  # [N, K]; NaN for images that cannot be decoded

    @property
    def answered(self) -> NDArray[np.bool_]:
        """Mask of the images that have a prediction [N]."""
        return np.asarray(~np.isnan(self.logits).any(1), np.bool_)

    @property
    def images(self) -> int:
        """Number of images that have a prediction."""
        return int(self.answered.sum())

    def _of(self, fold: int | None) -> NDArray[np.bool_]:
        """Returns the mask [N] of the images of a fold, or of all, that have a prediction."""
        return self.answered if fold is None else self.answered & (self.folds == fold)


@dataclass(frozen=True, kw_only=True, eq=False)
class OutOfFold(_Predictions):
    """Predictions for N images of one class each, by networks that were not trained on them."""

    labels: NDArray[np.int64]  # [N]

    @cached_property
    def probabilities(self) -> NDArray[np.float32]:
        """Softmax of the logits [N, K], without a temperature; NaN for images left out."""
        shares: NDArray[np.float32] = (
            torch.from_numpy(self.logits).double().softmax(1).float().numpy()
        )
        return shares

    @cached_property
    def guesses(self) -> NDArray[np.int64]:
        """The predicted class of each image [N]; LEFT_OUT for images left out."""
        there = self.answered
        return np.where(there, np.where(there[:, None], self.logits, 0).argmax(1), LEFT_OUT)

    @property
    def counts(self) -> ClassCounts:
        """Images, predictions and hits of each class."""
        return self._counts(self.answered)

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Confusion matrix [true class, predicted class], in images."""
        count, there = len(self.classes), self.answered
        cells = self.labels[there] * count + self.guesses[there]
        return np.bincount(cells, minlength=count * count).reshape(count, count)

    def measures(self, fold: int | None = None) -> dict[str, float]:
        """Returns top1, balanced and macro_f1, 0 to 1, of the images of a fold; None: of all."""
        counts = self._counts(self._of(fold))
        return {
            "top1": float(counts.hits.sum() / max(counts.images.sum(), 1)),
            "balanced": float(counts.balanced()),
            "macro_f1": float(counts.macro_f1()),
        }

    def interval(self) -> Interval:
        """Returns Wilson's 95 % interval of the top-1 accuracy on all images."""
        counts = self.counts
        return Interval(*wilson(int(counts.hits.sum()), int(counts.images.sum())).tolist())

    def header(self) -> list[str]:
        """Returns the titles of the columns of `row`."""
        names = [one_line(name) for name in self.classes]
        columns = ["label", "fold", "predicted", "probability"]
        return columns + [f"probability_{name}" for name in names]

    def row(self, at: int) -> list[object]:
        """Returns what the table says of an image: empty cells if it is left out."""
        guess = int(self.guesses[at])
        known = [one_line(self.classes[int(self.labels[at])]), int(self.folds[at])]
        if guess == LEFT_OUT:
            return [*known, *[""] * (2 + len(self.classes))]
        own = [f"{value:.6g}" for value in self.probabilities[at].tolist()]
        return [*known, one_line(self.classes[guess]), own[guess], *own]

    def _counts(self, chosen: NDArray[np.bool_]) -> ClassCounts:
        return count_classes(self.labels[chosen], self.guesses[chosen], len(self.classes))


class LabelScore(NamedTuple):
    """What was measured of one label on all images."""

    name: str
    images: int  # that have the label
    predicted: int  # images that were given the label
    hits: int  # images for which both hold
    average_precision: float  # 0 to 1; NaN if no image has the label
    f1: float  # 0 to 1
    precision: float  # 0 to 1; 0 if no image was given the label
    recall: float  # 0 to 1; 0 if no image has the label
    thresholds: tuple[float, float]  # the lowest and the highest of all folds


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelsOutOfFold(_Predictions):
    """Predictions for N multi-label images, by networks that were not trained on them.

    F1 needs thresholds. Those of a fold's own run were chosen on the images of that fold. Those
    here were chosen on the out-of-fold predictions for the images of all other folds, so that F1 is
    not too high.
    """

    labels: NDArray[np.uint8]  # [N, K], 1 for each label that the image has

    @cached_property
    def probabilities(self) -> NDArray[np.float32]:
        """Sigmoids of the logits [N, K]; NaN for images left out."""
        shares: NDArray[np.float32] = (
            torch.from_numpy(self.logits).double().sigmoid().float().numpy()
        )
        return shares

    @cached_property
    def thresholds(self) -> dict[int, MultiLabel]:
        """The thresholds of each fold, chosen on the images of all other folds."""
        there, found = self.answered, {}
        for fold in np.unique(self.folds).tolist():
            others = there & (self.folds != fold)
            found[fold] = choose_thresholds(self.labels[others], self.logits[others])
        return found

    @cached_property
    def given(self) -> NDArray[np.bool_]:
        """Whether each image is given each label [N, K]; False for images left out."""
        least = {fold: several.logits() for fold, several in self.thresholds.items()}
        rows = np.array([least[fold] for fold in self.folds.tolist()], np.float32)
        found: NDArray[np.bool_] = self.logits >= rows.reshape(self.labels.shape)
        return found

    def measures(self, fold: int | None = None) -> dict[str, float]:
        """Returns mAP, macro_f1, micro_f1 and exact_match, 0 to 1, of a fold; None: of all."""
        own = self._of(fold)
        labels, given = self.labels[own], self.given[own]
        counts = count_labels(labels, given)
        exact = (given == (labels > 0)).all(1)
        return {
            "mAP": mean_of(average_precision(labels, self.logits[own])),
            "macro_f1": float(counts.macro_f1()),
            "micro_f1": float(counts.micro_f1()),
            "exact_match": float(exact.mean()) if len(exact) else 0.0,
        }

    def interval(self) -> Interval:
        """Returns the 95 % interval of mAP on all images."""
        there = self.answered
        return label_intervals(self.labels[there], self.logits[there], self.given[there])[0]

    def per_label(self) -> list[LabelScore]:
        """Returns what was measured of each label, in the order of the labels."""
        there = self.answered
        counts = count_labels(self.labels[there], self.given[there])
        least = np.array([one.thresholds for one in self.thresholds.values()])  # [folds, K]
        columns: Sequence[Sequence[Any]] = (
            counts.positives.tolist(),
            counts.predicted.tolist(),
            counts.hits.tolist(),
            average_precision(self.labels[there], self.logits[there]).tolist(),
            counts.f1().tolist(),
            (counts.hits / np.maximum(counts.predicted, 1)).tolist(),
            (counts.hits / np.maximum(counts.positives, 1)).tolist(),
            list(zip(least.min(0).tolist(), least.max(0).tolist(), strict=True)),
        )
        return list(map(LabelScore, self.classes, *columns))

    def header(self) -> list[str]:
        """Returns the titles of the columns of `row`."""
        names = [one_line(name) for name in self.classes]
        kinds = ("label", "probability", "predicted")
        return ["labels", "fold", "predicted", *(f"{kind}_{n}" for kind in kinds for n in names)]

    def row(self, at: int) -> list[object]:
        """Returns what the table says of an image: names, and 0 or 1 and a probability per label.

        The cells of predictions are empty if the image is left out.
        """
        count = len(self.classes)
        true, given, fold = self.labels[at].tolist(), self.given[at].tolist(), int(self.folds[at])
        if not self.answered[at]:
            return [self._names(true), fold, "", *true, *[""] * (2 * count)]
        shares = [f"{value:.6g}" for value in self.probabilities[at].tolist()]
        return [self._names(true), fold, self._names(given), *true, *shares, *map(int, given)]

    def _names(self, bits: Sequence[int]) -> str:
        pairs = zip(self.classes, bits, strict=True)
        return ";".join(one_line(name) for name, bit in pairs if bit)


AnyOutOfFold = OutOfFold | LabelsOutOfFold
