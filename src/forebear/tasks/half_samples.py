"""95 % intervals of means over classes or labels: balanced accuracy, macro-F1 and mAP.

A percentile bootstrap of such a mean fails twice. Drawing with replacement repeats images, which
lifts average precision, as a repeated positive image counts as a hit above itself. And the measure
itself is too high or too low on few images, which percentiles double in place of removing it.

Here each draw takes every image with probability one half, so that none is repeated. For a measure
that does not depend on the number of images, these draws are as far from the whole set as the whole
set is from endless images, in bias and in spread (Owen and Eckles 2012, "Bootstrapping data arrays
of arbitrary order", section 4: the double-or-nothing bootstrap). The interval is that of a normal
distribution of the log-odds, around the measure without its bias, so that it stays within 0 and 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from forebear.tasks.metrics import Z95, ClassCounts, Interval, count_classes, wilson

DRAWS = 1000
_RARE = 3  # images of a class
_CELLS = 2**21  # drawn cells at a time: 16 MiB

Floats = NDArray[np.float64]


class Spread:
    """Collects the measure of each class in draws, and returns the interval of their mean."""

    def __init__(self, whole: NDArray[Any], images: NDArray[Any]) -> None:
        """Starts without draws.

        Args:
            whole: [classes], the measure of each class on all images, 0 to 1.
            images: [classes], images of the class. Classes without images do not count.
        """
        self._there = np.asarray(images) > 0
        self._whole = np.asarray(whole, np.float64)[self._there]
        self._images = np.asarray(images, np.float64)[self._there]
        self._kept = 1 - 0.5**self._images  # probability that a draw has images of the class
        self._biases: list[Floats] = []
        self._deviations: list[Floats] = []

    def add(self, values: NDArray[Any], images: NDArray[Any]) -> None:
        """Takes some draws.

        Args:
            values: [draws, classes], the measure of each class.
            images: [draws, classes], images of the class. Where there are none, the class does not
                count in the draw; those in which it counts weigh more instead.
        """
        own, there = values[:, self._there], images[:, self._there] > 0
        apart = np.where(there, own - self._whole, 0)
        count = max(len(self._whole), 1)
        self._biases.append((apart / self._kept).sum(1) / count)
        self._deviations.append((apart / np.sqrt(self._kept)).sum(1) / count)

    def interval(self) -> Interval:
        """Returns the 95 % interval of the mean; 0 to 1 without images.

        If no draw differs, as when all images are right, it combines Wilson's intervals of the
        classes (Zou and Donner 2008, "Construction of confidence limits about effect measures").
        """
        if not len(self._whole):
            return Interval(0.0, 1.0)
        mean = float(self._whole.mean())
        error = float(np.concatenate(self._deviations).std())
        if error < 1e-9:
            return self._combined(mean)
        error = float(np.hypot(error, self._of_rare()))
        bias = float(np.concatenate(self._biases).mean())
        # at most half of the way to 0 or 1
        centre = min(max(mean - bias, mean / 2), (1 + mean) / 2)
        odds = np.log(centre / (1 - centre))
        half = Z95 * error / (centre * (1 - centre))
        low, high = (float(1 / (1 + np.exp(-end))) for end in (odds - half, odds + half))
        return Interval(min(low, mean), max(high, mean))

    def _of_rare(self) -> float:
        """Returns the standard error that is added for classes of few images.

        Draws of one to three images hardly differ, however uncertain the measure of the class is.
        That of Wilson's interval takes their place.
        """
        rare = self._images <= _RARE
        ends = wilson(self._whole[rare] * self._images[rare], self._images[rare])
        errors = (ends[:, 1] - ends[:, 0]) / (2 * Z95)
        return float(np.sqrt((errors**2).sum())) / len(self._whole)

    def _combined(self, mean: float) -> Interval:
        ends = wilson(self._whole * self._images, self._images)
        below, above = np.sqrt(((ends - self._whole[:, None]) ** 2).sum(0)) / len(self._whole)
        return Interval(max(mean - float(below), 0.0), min(mean + float(above), 1.0))


def class_intervals(
    labels: NDArray[np.int64],
    guesses: NDArray[np.int64],
    classes: int,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[Interval, Interval]:
    """Returns the intervals of balanced accuracy and of macro-F1.

    Images of one label and one guess are alike, so a draw is a binomial number of each such pair.

    Args:
        labels: [n], true classes.
        guesses: [n], predicted classes.
        classes: Number of classes.
        draws: Half-samples.
        seed: Of the random numbers; the same images always have the same interval.
    """
    whole = count_classes(labels, guesses, classes)
    spreads = Spread(whole.recall(), whole.images), Spread(whole.f1(), whole.images)
    pairs, counts = np.unique(labels * classes + guesses, return_counts=True)
    random = np.random.default_rng(seed)
    most = max(1, _CELLS // max(len(pairs), classes))
    for start in range(0, draws, most):
        size = (min(most, draws - start), len(pairs))
        drawn = _count_pairs(pairs, random.binomial(counts, 0.5, size=size), classes)
        for spread, values in zip(spreads, (drawn.recall(), drawn.f1()), strict=True):
            spread.add(values, drawn.images)
    return spreads[0].interval(), spreads[1].interval()


def _count_pairs(pairs: NDArray[np.int64], drawn: NDArray[np.int64], classes: int) -> ClassCounts:
    """Returns the counts of drawn evaluations.

    Args:
        pairs: [pairs], label * classes + guess.
        drawn: [draws, pairs], images of each pair.
        classes: Number of classes.
    """
    labels, guesses = pairs // classes, pairs % classes
    right = labels == guesses
    return ClassCounts(
        images=_sum_by(labels, drawn, classes),
        predicted=_sum_by(guesses, drawn, classes),
        hits=_sum_by(labels[right], drawn[:, right], classes),
    )


def _sum_by(groups: NDArray[np.int64], values: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Returns the sums [rows, count] of the columns of each group of values [rows, columns]."""
    sums = np.zeros((len(values), count), np.int64)
    if len(groups):
        order = np.argsort(groups, kind="stable")
        found, starts = np.unique(groups[order], return_index=True)
        sums[:, found] = np.add.reduceat(values[:, order], starts, axis=1)
    return sums
