"""Statistics of an evaluation: balanced accuracy, macro-F1, and Wilson's 95 % intervals.

The measures are functions of counts per class, so that they work on one evaluation and on a
thousand drawn ones at once; `forebear.tasks.half_samples` has their intervals. A confidence
interval here says how far a measure could be from its value on endless images of the same kind; it
does not cover images of another kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Z95 = 1.959963984540054  # 97.5 % quantile of the standard normal distribution


class Interval(NamedTuple):
    """A 95 % confidence interval of a measure from 0 to 1."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class ClassCounts:
    """Counts of each class; leading axes, if any, are drawn evaluations."""

    images: NDArray[np.int64]  # [..., classes], images of the class
    predicted: NDArray[np.int64]  # [..., classes], images that the network gave the class
    hits: NDArray[np.int64]  # [..., classes], images for which the two agree

    def recall(self) -> NDArray[np.float64]:
        """Returns the recall [..., classes], 0 to 1; 0 of a class without images."""
        return np.asarray(self.hits / np.maximum(self.images, 1), np.float64)

    def f1(self) -> NDArray[np.float64]:
        """Returns F1 [..., classes], 0 to 1: 2 hits / (images + predictions).

        That is the harmonic mean of recall and precision.
        """
        return np.asarray(2 * self.hits / np.maximum(self.images + self.predicted, 1), np.float64)

    def balanced(self) -> NDArray[np.float64]:
        """Returns the balanced accuracy [...], 0 to 1: the mean recall of the classes with images.

        Every class has the same weight, however many images it has (Brodersen et al. 2010, "The
        balanced accuracy and its posterior distribution").
        """
        return self._mean(self.recall())

    def macro_f1(self) -> NDArray[np.float64]:
        """Returns the mean F1 [...], 0 to 1, of the classes with images."""
        return self._mean(self.f1())

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
