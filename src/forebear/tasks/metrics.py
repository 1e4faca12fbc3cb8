"""Statistics of an evaluation: balanced accuracy, macro-F1, and 95 % confidence intervals.

All of them are functions of counts per class, so that they work on one evaluation and on a thousand
resampled ones at once. A confidence interval here says how far a measure could be from its value on
endless images of the same kind; it does not cover images of another kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Z95 = 1.959963984540054  # 97.5 % quantile of the standard normal distribution
LEVEL = 0.95
DRAWS = 1000  # Efron and Tibshirani 1993, section 13.3: percentile intervals need about 1,000
_CELLS = 2**21  # resampled cells at a time: 16 MiB


class Interval(NamedTuple):
    """A 95 % confidence interval of a measure from 0 to 1."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class ClassCounts:
    """Counts of each class; leading axes, if any, are resampled evaluations."""

    images: NDArray[np.int64]  # [..., classes], images of the class
    predicted: NDArray[np.int64]  # [..., classes], images that the network gave the class
    hits: NDArray[np.int64]  # [..., classes], images for which the two agree

    def balanced(self) -> NDArray[np.float64]:
        """Returns the balanced accuracy [...], 0 to 1: the mean recall of the classes with images.

        Every class has the same weight, however many images it has (Brodersen et al. 2010, "The
        balanced accuracy and its posterior distribution").
        """
        return self._mean(self.hits / np.maximum(self.images, 1))

    def macro_f1(self) -> NDArray[np.float64]:
        """Returns the mean F1 [...], 0 to 1, of the classes with images.

        F1 is 2 hits / (images + predictions), the harmonic mean of recall and precision.
        """
        return self._mean(2 * self.hits / np.maximum(self.images + self.predicted, 1))

    def _mean(self, values: NDArray[Any]) -> NDArray[np.float64]:
        there = self.images > 0
        means = np.where(there, values, 0).sum(-1) / np.maximum(there.sum(-1), 1)
        return np.asarray(means, np.float64)


def count_classes(
    labels: NDArray[np.int64], guesses: NDArray[np.int64], classes: int
) -> ClassCounts:
    """Returns the counts of each class.

    Args:
        labels: [n], true classes.
        guesses: [n], predicted classes.
        classes: Number of classes.
    """
    return ClassCounts(
        images=np.bincount(labels, minlength=classes),
        predicted=np.bincount(guesses, minlength=classes),
        hits=np.bincount(labels[guesses == labels], minlength=classes),
    )


def wilson(hits: NDArray[Any] | int, count: NDArray[Any] | int) -> NDArray[np.float64]:
    """Returns Wilson's 95 % score intervals [..., 2] of fractions; [0, 1] without trials.

    Unlike the normal approximation, they stay within 0 and 1, and have a width if all hit or none
    (Wilson 1927, "Probable inference, the law of succession, and statistical inference").

    Args:
        hits: [...], of `count` trials.
        count: [...], trials.
    """
    n = np.asarray(count, np.float64)
    trials = np.maximum(n, 1)
    share = np.asarray(hits, np.float64) / trials
    centre = share + Z95**2 / (2 * trials)
    half = Z95 * np.sqrt(share * (1 - share) / trials + (Z95 / (2 * trials)) ** 2)
    ends = np.stack([centre - half, centre + half], -1) / (1 + Z95**2 / trials)[..., None]
    return np.where((n > 0)[..., None], ends.clip(0, 1), [0.0, 1.0])


def bootstrap(
    labels: NDArray[np.int64],
    guesses: NDArray[np.int64],
    classes: int,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[Interval, Interval]:
    """Returns percentile bootstrap intervals of balanced accuracy and of macro-F1.

    Each draw takes as many images as there are, with replacement, and measures them (Efron 1979,
    "Bootstrap methods: another look at the jackknife"; the percentile interval is that of Efron
    1981). A class that a draw lacks does not count in that draw. The interval is a single point if
    all images are right.

    Images of one label and one guess are alike, so a draw is one multinomial sample of such pairs.

    Args:
        labels: [n], true classes.
        guesses: [n], predicted classes.
        classes: Number of classes.
        draws: Resampled evaluations.
        seed: Of the random numbers; the same images always have the same interval.
    """
    if not len(labels):
        return Interval(0.0, 1.0), Interval(0.0, 1.0)
    pairs, counts = np.unique(labels * classes + guesses, return_counts=True)
    random = np.random.default_rng(seed)
    most = max(1, _CELLS // len(pairs))
    balanced, f1 = [], []
    for start in range(0, draws, most):
        size = min(most, draws - start)
        drawn = random.multinomial(len(labels), counts / len(labels), size=size)
        resampled = _count_pairs(pairs, drawn, classes)
        balanced.append(resampled.balanced())
        f1.append(resampled.macro_f1())
    return _middle(np.concatenate(balanced)), _middle(np.concatenate(f1))


def _count_pairs(pairs: NDArray[np.int64], drawn: NDArray[np.int64], classes: int) -> ClassCounts:
    """Returns the counts of resampled evaluations.

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


def _middle(values: NDArray[np.float64]) -> Interval:
    """Returns the interval that leaves 2.5 % of the values out on either side."""
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))
