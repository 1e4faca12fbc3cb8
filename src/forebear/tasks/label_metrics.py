"""Statistics of multi-label predictions: average precision, F1, and the choice of thresholds.

A label without a positive image has no average precision and no recall; means over the labels
leave it out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from forebear.network.multi_label import DEFAULT, MultiLabel
from forebear.tasks.half_samples import DRAWS, Spread
from forebear.tasks.metrics import Interval

LEAST_POSITIVES = 10  # images with a label from which its threshold is chosen
_WORK = 2e8  # drawn values of an interval, at most: about two seconds
_FEWEST = 100  # draws, however many images there are

Bits = NDArray[np.uint8]
Floats = NDArray[np.float64]


def average_precision(labels: Bits, scores: NDArray[Any]) -> Floats:
    """Returns the average precision [classes] of each label, 0 to 1; nan without a positive image.

    It is the sum over the distinct scores, from the highest, of the precision at that score times
    the recall that it adds. Nothing is interpolated, as in scikit-learn's
    `average_precision_score`: interpolation is too optimistic (Davis and Goadrich 2006, "The
    relationship between precision-recall and ROC curves", section 5).

    Args:
        labels: [n, classes] of 0 and 1.
        scores: [n, classes]; larger for images that more likely have the label.
    """
    weights = np.ones((1, len(labels)))
    found = [_weighted(one, own, weights)[0] for one, own in zip(labels.T, scores.T, strict=True)]
    return np.array(found, np.float64)


def _weighted(labels: Bits, scores: NDArray[Any], weights: Floats) -> Floats:
    """Returns the average precision [draws] of one label with weights [draws, n] of the images."""
    if not len(labels):
        return np.full(len(weights), np.nan)
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)  # of equal scores
    drawn = weights[:, order]
    hits = np.cumsum(drawn * labels[order], axis=1)[:, ends]
    chosen = np.cumsum(drawn, axis=1)[:, ends]
    gained = np.diff(hits, axis=1, prepend=0)
    total = hits[:, -1]
    area = (gained * hits / np.maximum(chosen, 1)).sum(1)
    with np.errstate(invalid="ignore"):
        return np.where(total > 0, area / np.maximum(total, 1), np.nan)


class LabelCounts(NamedTuple):
    """Counts of each label; leading axes, if any, are drawn evaluations."""

    positives: NDArray[Any]  # [..., classes], images that have the label
    predicted: NDArray[Any]  # [..., classes], images that were given the label
    hits: NDArray[Any]  # [..., classes], images for which both hold

    def f1(self) -> Floats:
        """Returns F1, 2 hits / (positives + predictions), of each label [..., classes]."""
        found: Floats = 2 * self.hits / np.maximum(self.positives + self.predicted, 1)
        return found

    def macro_f1(self) -> Floats:
        """Returns the mean F1 [...] of the labels with positive images, 0 to 1."""
        there = self.positives > 0
        means = np.where(there, self.f1(), 0).sum(-1) / np.maximum(there.sum(-1), 1)
        return np.asarray(means, np.float64)

    def micro_f1(self) -> Floats:
        """Returns F1 [...] of all pairs of an image and a label together, 0 to 1."""
        hits, both = self.hits.sum(-1), (self.positives + self.predicted).sum(-1)
        return np.asarray(2 * hits / np.maximum(both, 1), np.float64)


def count_labels(labels: Bits, predicted: NDArray[np.bool_]) -> LabelCounts:
    """Returns the counts of each label, from two matrices [n, classes]."""
    true = labels > 0
    sums = (matrix.sum(0, dtype=np.int64) for matrix in (true, predicted, true & predicted))
    return LabelCounts(*sums)


def mean_of(values: Floats) -> float:
    """Returns the mean of the values that are numbers; 0 if none is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else 0.0


def label_intervals(
    labels: Bits, scores: NDArray[Any], predicted: NDArray[np.bool_], *, seed: int = 0
) -> tuple[Interval, Interval, Interval]:
    """Returns the 95 % intervals of mAP, of micro-F1 and of macro-F1.

    `forebear.tasks.half_samples` says how they are found. There are 1,000 draws, and fewer, at
    least 100, for more than about 200,000 pairs of an image and a label.

    Args:
        labels: [n, classes] of 0 and 1.
        scores: [n, classes].
        predicted: [n, classes], whether each image is given each label.
        seed: Of the random numbers; the same images always have the same interval.
    """
    count, counts = len(labels), count_labels(labels, predicted)
    pairs = counts.positives.sum(keepdims=True)
    spreads = (
        Spread(average_precision(labels, scores), counts.positives),
        Spread(counts.micro_f1().reshape(1), pairs),
        Spread(counts.f1(), counts.positives),
    )
    draws = int(min(DRAWS, max(_FEWEST, _WORK // max(labels.size, 1))))
    true, random = (labels > 0).astype(np.float64), np.random.default_rng(seed)
    step = max(1, int(4e6 // max(count, 1)))
    for start in range(0, draws, step):
        size = min(step, draws - start)
        weights = random.integers(0, 2, (size, count)).astype(np.float64)
        each = [_weighted(one, own, weights) for one, own in zip(labels.T, scores.T, strict=True)]
        drawn = LabelCounts(*(weights @ matrix for matrix in (true, predicted, true * predicted)))
        spreads[0].add(np.stack(each, 1), drawn.positives)
        spreads[1].add(drawn.micro_f1()[:, None], drawn.positives.sum(1, keepdims=True))
        spreads[2].add(drawn.f1(), drawn.positives)
    first, second, third = (spread.interval() for spread in spreads)
    return first, second, third


def choose_thresholds(
    labels: Bits, logits: NDArray[np.float32], *, fingerprint: str = ""
) -> MultiLabel:
    """Returns the threshold of each label that has the highest F1 on these images.

    It lies half-way, as a logit, between two images, so that neither all images get the label nor
    none. Of equally good thresholds it is the nearest to 0.5. A label with fewer than 10 positive
    or negative images keeps 0.5: the best threshold on so few would be chance. Choosing each
    label's threshold for its own F1 is best for macro-F1 (Lipton et al. 2014, "Optimal thresholding
    of classifiers to maximize F1 measure", section 5).

    Args:
        labels: [n, classes] of 0 and 1, of images that the network was not trained on.
        logits: [n, classes], finite.
        fingerprint: Of the data set.
    """
    found = tuple(_threshold(one, own) for one, own in zip(labels.T, logits.T, strict=True))
    chosen = any(value != DEFAULT for value in found)
    return MultiLabel(
        thresholds=found, images=len(labels) if chosen else 0, fingerprint=fingerprint
    )


def _threshold(labels: Bits, logits: NDArray[np.float32]) -> float:
    positives = int(labels.sum())
    if min(positives, len(labels) - positives) < LEAST_POSITIVES:
        return DEFAULT
    order = np.argsort(-logits, kind="stable")
    falling = logits[order].astype(np.float64)
    ends = np.flatnonzero(np.diff(falling))  # thresholds lie between these places and the next
    hits = np.cumsum(labels[order])[ends]
    f1 = 2 * hits / (positives + ends + 1)
    middles = (falling[ends] + falling[ends + 1]) / 2
    best = np.flatnonzero(f1 == f1.max(initial=0.0))
    if not len(best):
        return DEFAULT
    middle = float(middles[best[np.argmin(np.abs(middles[best]))]])
    return float(1 / (1 + np.exp(-np.clip(middle, -30, 30))))
