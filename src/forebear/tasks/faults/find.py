"""Finds the faults of a data set with a network: labels, near-duplicates and outliers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forebear.data.dataset import Dataset
from forebear.network.network import Network
from forebear.tasks.check import Checked, Row
from forebear.tasks.evaluation_set import match_classes
from forebear.tasks.faults.close_hashes import MOST_BITS
from forebear.tasks.faults.label_errors import (
    FOLDS,
    LEAST,
    LabelErrors,
    Probabilities,
    label_errors,
    of_network,
    out_of_fold,
)
from forebear.tasks.faults.near_duplicates import (
    FINE_BITS,
    SIMILARITY,
    Group,
    is_across,
    near_duplicates,
)
from forebear.tasks.faults.observe import Observed, observe
from forebear.tasks.faults.outliers import NEIGHBOURS, THRESHOLD, outlier_scores
from forebear.tasks.faults.suggestions import Faults, Suggestion


def find_faults(
    network: Network,
    data: Dataset,
    checked: Checked,
    advance: Callable[[int], None] = lambda count: None,
) -> Faults:
    """Returns suggestions for the images that can be used. Nothing is changed.

    Args:
        network: In evaluation mode, of any classes.
        data: As returned by `read_data`.
        checked: Of the same data.
        advance: Called with the number of images after each batch.

    Raises:
        ForebearError: A library is not installed.
        WeightsError: The features of an image are not finite.
    """
    usable = np.array([at for at, row in enumerate(checked.rows) if row.error is None], np.int64)
    seen = observe(network, data, usable, advance)
    rows = [checked.rows[place] for place in seen.places]
    contents = [(str(row.sha256), row.part) for row in rows]
    labels = np.concatenate([data.train.labels, data.val.labels])[seen.places]
    several = data.multi_label
    if several:  # all images are compared with each other
        labels = np.zeros(len(labels), np.int64)
    groups = near_duplicates(seen.hashes, seen.features, contents)
    families = _families(contents, groups)
    methods = []
    wrong = []
    if several:
        methods.append("label errors: not looked for, as images have several labels")
    else:
        for found, said in _probabilities(network, data, rows, seen, labels, families):
            wrong.append(label_errors(labels, found))
            methods.append(said)
    methods.append(
        f"near-duplicates: perceptual hashes that differ in at most {MOST_BITS} of 64 and "
        f"{FINE_BITS} of 256 bits, and a cosine similarity of the features of at least "
        f"{SIMILARITY:g}"
    )
    methods.append(
        f"outliers: distance to the {NEIGHBOURS}th nearest neighbour in the "
        f"{'data set' if several else 'class'} of at least "
        f"{THRESHOLD:g} robust standard deviations above the median"
    )
    scores = outlier_scores(seen.features, labels)
    return Faults(
        images=len(rows),
        skipped=len(checked.rows) - len(rows),
        suggestions=(
            *_labels(wrong, rows, seen.places, data.classes),
            *_near(groups, rows, seen.places),
            *_outliers(scores, rows, seen.places),
        ),
        across=sum(len(group.members) - 1 for group in groups if is_across(group, contents)),
        methods=tuple(methods),
    )


def _families(contents: Sequence[tuple[str, str]], groups: Sequence[Group]) -> NDArray[np.int64]:
    """Returns a number for each image; copies and near-duplicates have the same one."""
    numbers = np.unique([digest for digest, _ in contents], return_inverse=True)[1]
    numbers = np.asarray(numbers, np.int64).reshape(len(contents))
    for group in groups:
        members = np.unique(numbers[list(group.members)])
        if len(members) > 1:
            numbers[np.isin(numbers, members)] = members[0]
    return numbers


def _probabilities(
    network: Network,
    data: Dataset,
    rows: Sequence[Row],
    seen: Observed,
    labels: NDArray[np.int64],
    families: NDArray[np.int64],
) -> list[tuple[Probabilities, str]]:
    """Returns honest probabilities for all images, and sentences that say where they come from."""
    every, own = np.arange(len(rows)), np.zeros(len(rows), bool)
    metrics = network.card.metrics
    if data.fingerprint in (metrics.get("fingerprint"), metrics.get("data_fingerprint")):
        own = np.array([row.part == "val" for row in rows], bool)
    parts = []
    if not own.all() or not len(rows):
        found = out_of_fold(seen.features, labels, families, every[~own])
        said = (
            f"label errors of {_counted(found, every[~own])}: {FOLDS}-fold cross-validated "
            f"logistic regression on the network's features ({seen.end_point}, "
            f"{seen.features.shape[1]:,} values)"
        )
        parts.append((found, said))
    if own.any() and seen.logits is not None:
        match = match_classes(network.classes, network.plan.num_classes or 0, data)
        found = of_network(seen.logits, match.numbers, labels, families, every[own])
        said = (
            f"label errors of {_counted(found, every[own])}: the network's own probabilities, as "
            "it was not trained on these validation images"
        )
        parts.append((found, said))
    return parts


def _counted(found: Probabilities, asked: NDArray[np.int64]) -> str:
    left = len(asked) - len(found.rows)
    without = f" ({left:,} in classes with fewer than {LEAST} distinct ones are left out)"
    return f"{len(found.rows):,} images{without if left else ''}"


def _labels(
    wrong: Sequence[LabelErrors],
    rows: Sequence[Row],
    places: NDArray[np.int64],
    classes: Sequence[str],
) -> list[Suggestion]:
    found = [
        _suggestion(
            rows[at], places[at], kind="label", score=float(score), suggested=classes[number]
        )
        for part in wrong
        for at, number, score in zip(part.rows, part.suggested, part.scores, strict=True)
    ]
    return sorted(found, key=lambda one: -one.score)


def _near(
    groups: Sequence[Group], rows: Sequence[Row], places: NDArray[np.int64]
) -> list[Suggestion]:
    return [
        _suggestion(
            rows[at],
            places[at],
            kind="near-duplicate",
            score=score,
            other=int(places[other]),
            other_path=rows[other].name,
        )
        for group in groups
        for at, other, score in zip(
            group.members[1:], group.resembles, group.similarity, strict=True
        )
    ]


def _outliers(
    scores: NDArray[np.float64], rows: Sequence[Row], places: NDArray[np.int64]
) -> list[Suggestion]:
    order = np.argsort(-scores, kind="stable")
    return [
        _suggestion(rows[at], places[at], kind="outlier", score=float(scores[at]))
        for at in order[scores[order] >= THRESHOLD]
    ]


def _suggestion(row: Row, place: np.int64, **more: Any) -> Suggestion:
    return Suggestion(place=int(place), path=row.name, part=row.part, label=row.label, **more)
