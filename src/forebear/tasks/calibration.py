"""Fits the temperature of a network's logits and the threshold for unknown images, and measures.

Temperature scaling and the expected calibration error are those of Guo et al. 2017, "On calibration
of modern neural networks" (https://arxiv.org/abs/1706.04599), sections 2 and 4.2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forebear.data.strata import stratified
from forebear.engines.classifier import scores
from forebear.errors import DataError
from forebear.network.calibration import TEMPERATURES, Calibration, Score

BINS = 15  # of the expected calibration error, as in Guo et al. 2017, section 5
LEAST = 20  # images that a calibration is fitted on
SCORE: Score = "probability"
_CHUNK = 1 << 20  # values that are computed with at a time
_STEPS = 100  # at most; halving log(64 / (1 / 64)) 40 times gives `_CLOSE`
_CLOSE = 1e-10  # relative error of the temperature

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Reliability:
    """How often guesses of each confidence are right, in equal-width bins of (0, 1]."""

    counts: NDArray[np.int64]  # [bins], images
    confidence: Floats  # [bins], mean probability of the guesses; 0 in a bin without images
    accuracy: Floats  # [bins], share of right guesses; 0 in a bin without images

    @property
    def ece(self) -> float:
        """Expected calibration error, 0 to 1."""
        gaps = np.abs(self.accuracy - self.confidence)
        return float(gaps @ self.counts / max(int(self.counts.sum()), 1))


def reliability(
    confidences: NDArray[np.floating], correct: NDArray[np.bool_], bins: int = BINS
) -> Reliability:
    """Returns the bins of a reliability diagram (Guo et al. 2017, equations 1 and 2).

    Args:
        confidences: Probabilities [n] of the guesses.
        correct: Whether each guess is right, [n].
        bins: Number of bins of equal width.
    """
    place = np.clip(np.ceil(confidences.astype(np.float64) * bins) - 1, 0, bins - 1)
    return _binned(confidences, correct, place.astype(np.int64), bins)


def adaptive_ece(
    confidences: NDArray[np.floating], correct: NDArray[np.bool_], bins: int = BINS
) -> float:
    """Returns the calibration error with bins of equal numbers of images, 0 to 1.

    Nguyen and O'Connor 2015, "Posterior calibration and exploratory analysis for natural language
    processing models", section 3.2.
    """
    place = np.empty(len(confidences), np.int64)
    order = np.argsort(confidences, kind="stable")
    place[order] = np.arange(len(order)) * bins // max(len(order), 1)
    return _binned(confidences, correct, place, bins).ece


def _binned(
    confidences: NDArray[np.floating],
    correct: NDArray[np.bool_],
    place: NDArray[np.int64],
    bins: int,
) -> Reliability:
    counts = np.bincount(place, minlength=bins)
    some = np.maximum(counts, 1)
    return Reliability(
        counts=counts,
        confidence=np.bincount(place, confidences, bins) / some,
        accuracy=np.bincount(place, correct, bins) / some,
    )


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Returns the temperature with the least negative log-likelihood, in float64.

    The loss is convex in 1 / temperature. Its root is found by Newton's method on the derivative
    within a bracket, and by bisection where a step leaves the bracket. The labels are smoothed by
    1 / (n + 2), as Platt 1999 ("Probabilistic outputs for support vector machines", section 2.2)
    does: otherwise a network without a mistake among the n images would have the temperature 0.

    Args:
        logits: [n, classes].
        labels: True classes, [n].

    Returns:
        A number within `TEMPERATURES`.
    """
    if logits.shape[1] < 2:
        return 1.0
    low, high, beta = 1 / TEMPERATURES[1], 1 / TEMPERATURES[0], 1.0
    for _ in range(_STEPS):
        slope, curvature = _slopes(logits, labels, beta)
        low, high = (beta, high) if slope < 0 else (low, beta)
        step = beta - slope / curvature if curvature > 0 else low
        after = step if low < step < high else math.sqrt(low * high)
        if abs(after - beta) <= _CLOSE * beta:
            break
        beta = after
    return min(max(1 / beta, TEMPERATURES[0]), TEMPERATURES[1])


def _slopes(
    logits: NDArray[np.float32], labels: NDArray[np.int64], beta: float
) -> tuple[float, float]:
    """Returns the first and second derivative of the loss by beta = 1 / temperature."""
    count, classes = logits.shape
    smooth = 1 / (count + 2)
    first = second = 0.0
    step = max(1, _CHUNK // classes)
    for at in range(0, count, step):
        z = logits[at : at + step].astype(np.float64)
        z -= z.max(1, keepdims=True)
        shares = np.exp(beta * z)
        shares /= shares.sum(1, keepdims=True)
        mean = (shares * z).sum(1)
        true = np.take_along_axis(z, labels[at : at + step, None], 1)[:, 0]
        others = (z.sum(1) - true) / (classes - 1)
        first += float((mean - (1 - smooth) * true - smooth * others).sum())
        second += float(((shares * z * z).sum(1) - mean * mean).sum())
    return first, second


def fit_threshold(known: Floats, rate: float) -> float:
    """Returns the threshold that a share of the known images is below.

    Args:
        known: Scores [n] of known images.
        rate: The share, 0 to 1. With equal scores it can be less.
    """
    return float(np.sort(known)[min(math.floor(rate * len(known) + 1e-9), len(known) - 1)])


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Fit:
    """A calibration and how it does on images that had no part in it.

    Each half of the images is measured with the temperature and the threshold of the other half.
    """

    calibration: Calibration
    before: Reliability  # of softmax(logits)
    after: Reliability
    adaptive_before: float  # `adaptive_ece`
    adaptive_after: float
    halves: tuple[tuple[float, float], ...]  # ECE of both halves, before and after
    unknown: float  # share of the images that are called unknown, 0 to 1


def calibrate(
    logits: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    unknown: float = 0.05,
    score: Score = SCORE,
    fingerprint: str = "",
) -> Fit:
    """Fits temperature and threshold on all images, and measures them by two halves.

    The halves are random with a fixed seed, and have the same proportions of classes.

    Args:
        logits: [n, classes].
        labels: True classes, [n].
        unknown: Share of known images that may be called unknown, 0 to 1.
        score: What the threshold is compared with.
        fingerprint: Of the data set.

    Raises:
        DataError: There are fewer than `LEAST` images, or less than one of them may be unknown.
    """
    if len(labels) < least_images(unknown):
        raise DataError(
            f"{len(labels):,} images to calibrate with, of which a share of {unknown:g} may be "
            f"unknown. Expected {least_images(unknown):,} images or more. Pass more labelled "
            "images, or a larger --unknown."
        )
    half = np.zeros(len(labels), bool)
    half[stratified(labels, seed=0)[::2]] = True
    correct = logits.argmax(1) == labels
    plain, calibrated = scores(logits, 1.0, "probability"), np.empty(len(labels))
    below = np.zeros(len(labels), bool)
    for own in (half, ~half):
        temperature = fit_temperature(logits[~own], labels[~own])
        calibrated[own] = scores(logits[own], temperature, "probability")
        threshold = fit_threshold(scores(logits[~own], temperature, score), unknown)
        below[own] = scores(logits[own], temperature, score) < threshold
    before, after = reliability(plain, correct), reliability(calibrated, correct)
    temperature = fit_temperature(logits, labels)
    return Fit(
        calibration=Calibration(
            temperature=temperature,
            score=score,
            threshold=fit_threshold(scores(logits, temperature, score), unknown),
            unknown_rate=unknown,
            images=len(labels),
            fingerprint=fingerprint,
            ece_before=before.ece,
            ece_after=after.ece,
        ),
        before=before,
        after=after,
        adaptive_before=adaptive_ece(plain, correct),
        adaptive_after=adaptive_ece(calibrated, correct),
        halves=tuple(
            (
                reliability(plain[own], correct[own]).ece,
                reliability(calibrated[own], correct[own]).ece,
            )
            for own in (half, ~half)
        ),
        unknown=float(below.mean()),
    )


def least_images(unknown: float) -> int:
    """Returns how many images a calibration needs, for a share of them that may be unknown."""
    return max(LEAST, math.ceil(1 / unknown - 1e-9))
