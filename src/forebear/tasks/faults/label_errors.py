"""Finds likely label errors by confident learning on out-of-fold probabilities.

Source: Northcutt, Jiang and Chuang, Confident learning: estimating uncertainty in dataset labels
(JAIR 2021). cleanlab, by the same authors, is the implementation.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forebear.tasks.faults.optional_library import library

FOLDS = 5
LEAST = FOLDS  # distinct images of a class; smaller classes are left out
# Both were chosen on Imagenette with 10 % of the labels swapped, for 300 to 9,469 images; the
# figures in benchmarks/results/label_faults.md are of other swaps.
STRENGTH = 0.003  # inverse L2 penalty of the logistic regression
FILTER = "low_self_confidence"  # cleanlab's: as many as the confident joint counts, the worst first
_ITERATIONS = 200


@dataclass(frozen=True, slots=True, eq=False)
class Probabilities:
    """Probabilities of the classes for some images, from a model that did not train on them."""

    rows: NDArray[np.int64]  # [m], indices of the images
    classes: NDArray[np.int64]  # [k], indices of the classes, rising
    values: NDArray[np.float64]  # [m, k]; rows sum to 1


@dataclass(frozen=True, slots=True, eq=False)
class LabelErrors:
    """Images whose label is likely wrong, the likeliest first."""

    rows: NDArray[np.int64]  # indices of the images
    suggested: NDArray[np.int64]  # the most probable class of each
    scores: NDArray[np.float64]  # 1 minus the probability of the given label


def out_of_fold(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    rows: NDArray[np.int64],
    *,
    strength: float = STRENGTH,
) -> Probabilities:
    """Returns the probabilities of a cross-validated logistic regression on frozen features.

    Args:
        features: [n, d].
        labels: [n].
        groups: [n]; images of the same group, such as copies, are in the same fold.
        rows: Indices of the images to fit and to judge.
        strength: Inverse of the L2 penalty, on features of mean 0 and standard deviation 1.

    Raises:
        ForebearError: scikit-learn is not installed.
    """
    linear, pipeline = library("sklearn.linear_model"), library("sklearn.pipeline")
    selection, scaling = library("sklearn.model_selection"), library("sklearn.preprocessing")
    rows, classes = judged(labels, groups, rows)
    if len(classes) < 2:
        return Probabilities(rows[:0], classes[:0], np.zeros((0, 0)))
    x, y = features[rows], np.searchsorted(classes, labels[rows])
    values = np.zeros((len(rows), len(classes)))
    whole = np.ones(len(rows), bool)
    folds = selection.StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    for fitted, held_out in folds.split(x, y, groups[rows]):
        model = pipeline.make_pipeline(
            scaling.StandardScaler(),
            linear.LogisticRegression(C=strength, max_iter=_ITERATIONS),
        )
        with warnings.catch_warnings():  # a fit that has not converged is still out of fold
            warnings.simplefilter("ignore", library("sklearn.exceptions").ConvergenceWarning)
            model.fit(x[fitted], y[fitted])
        known = model.classes_
        values[np.ix_(held_out, known)] = model.predict_proba(x[held_out])
        whole[held_out] = np.isin(y[held_out], known)
    return Probabilities(rows[whole], classes, values[whole])


def of_network(
    logits: NDArray[np.float32],
    numbers: NDArray[np.int64],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    rows: NDArray[np.int64],
) -> Probabilities:
    """Returns the network's own probabilities for images that it was not trained on.

    Args:
        logits: [n, classes of the network].
        numbers: The logit of each class of the data set.
        labels: [n].
        groups: [n], as in `out_of_fold`.
        rows: Indices of the images to judge.
    """
    rows, classes = judged(labels, groups, rows)
    found = logits[np.ix_(rows, numbers[classes])].astype(np.float64)
    odds = np.exp(found - found.max(1, initial=-np.inf, keepdims=True))
    return Probabilities(rows, classes, odds / odds.sum(1, keepdims=True))


def of_shares(
    shares: NDArray[np.float64],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    rows: NDArray[np.int64],
) -> Probabilities:
    """Returns given probabilities, of the classes that are judged.

    Args:
        shares: [n, classes], not NaN for `rows`.
        labels: [n].
        groups: [n], as in `out_of_fold`.
        rows: Indices of the images to judge.
    """
    rows, classes = judged(labels, groups, rows)
    values = shares[np.ix_(rows, classes)]
    sums = values.sum(1, keepdims=True)
    even = np.full_like(values, 1 / max(len(classes), 1))  # all of it is of classes left out
    return Probabilities(rows, classes, np.divide(values, sums, out=even, where=sums > 0))


def judged(
    labels: NDArray[np.int64], groups: NDArray[np.int64], rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the rows of classes with at least `LEAST` distinct images, and these classes."""
    pairs = np.unique(np.stack([labels[rows], groups[rows]]), axis=1)
    classes, counts = np.unique(pairs[0], return_counts=True)
    classes = classes[counts >= LEAST]
    return rows[np.isin(labels[rows], classes)], classes


def label_errors(labels: NDArray[np.int64], found: Probabilities) -> LabelErrors:
    """Returns the label errors that confident learning finds.

    Args:
        labels: Of all images.
        found: Probabilities of some of them.

    Raises:
        ForebearError: cleanlab is not installed.
    """
    if len(found.classes) < 2:
        nothing = np.zeros(0, np.int64)
        return LabelErrors(nothing, nothing, np.zeros(0))
    given = np.searchsorted(found.classes, labels[found.rows])
    order = library("cleanlab.filter").find_label_issues(
        given,
        found.values,
        filter_by=FILTER,
        return_indices_ranked_by="self_confidence",
        n_jobs=1,
    )
    order = np.asarray(order, np.int64)
    return LabelErrors(
        rows=found.rows[order],
        suggested=found.classes[found.values[order].argmax(1)],
        scores=1.0 - found.values[order, given[order]],
    )


@dataclass(frozen=True, slots=True, eq=False)
class LabelSetErrors:
    """Images of several labels of which at least one is likely wrong, the likeliest first."""

    rows: NDArray[np.int64]  # [m], indices of the images
    suggested: NDArray[np.uint8]  # [m, labels], 1 for each label that the image likely has
    scores: NDArray[np.float64]  # [m], the largest of the doubtful labels; see `label_set_errors`
    judged: int  # number of labels that were judged


def label_set_errors(
    labels: NDArray[np.uint8], shares: NDArray[np.float64], groups: NDArray[np.int64]
) -> LabelSetErrors:
    """Returns the images with several labels that confident learning doubts.

    Each label is judged on its own, as a choice between having it and not (Thyagarajan et al. 2022,
    "Identifying incorrect annotations in multi-label classification data"). The score of a doubt is
    1 minus the probability of what is given: that the image has the label, or that it has not.

    Args:
        labels: [n, labels] of 0 and 1.
        shares: [n, labels], the probability of each label; a row of NaN is not judged.
        groups: [n], as in `out_of_fold`. A label that fewer than `LEAST` distinct images have, or
            lack, is left out.

    Raises:
        ForebearError: cleanlab is not installed.
    """
    every = np.flatnonzero(~np.isnan(shares).any(1))
    scores, known = np.zeros(labels.shape), 0
    for number in range(labels.shape[1]):
        given = (labels[:, number] > 0).astype(np.int64)
        both = np.stack([1 - shares[:, number], shares[:, number]], 1)
        found = of_shares(both, given, groups, every)
        if len(found.classes) == 2:
            wrong = label_errors(given, found)
            scores[wrong.rows, number] = wrong.scores
            known += 1
    best = scores.max(1, initial=0.0)
    order = np.argsort(-best, kind="stable")
    rows = order[best[order] > 0]
    turned = (labels[rows] > 0) ^ (scores[rows] > 0)
    return LabelSetErrors(rows, turned.astype(np.uint8), best[rows], known)
