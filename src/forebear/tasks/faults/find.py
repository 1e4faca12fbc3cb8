"""Finds the faults of a data set with a network: labels, near-duplicates and outliers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forebear.data.dataset import Dataset
from forebear.data.labels import names
from forebear.network.network import Network
from forebear.tasks.check import Checked, Row
from forebear.tasks.faults.close_hashes import MOST_BITS
from forebear.tasks.faults.label_errors import (
    LEAST,
    LabelErrors,
    label_errors,
    label_set_errors,
)
from forebear.tasks.faults.near_duplicates import (
    FINE_BITS,
    SIMILARITY,
    Group,
    is_across,
    near_duplicates,
)
from forebear.tasks.faults.observe import observe
from forebear.tasks.faults.outliers import NEIGHBOURS, THRESHOLD, outlier_scores
from forebear.tasks.faults.probabilities import honest
from forebear.tasks.faults.suggestions import Faults, Suggestion


def find_faults(
    network: Network,
    data: Dataset,
    checked: Checked,
    advance: Callable[[int], None] = lambda count: None,
    *,
    shares: NDArray[np.float64] | None = None,
) -> Faults:
    """Returns suggestions for the images that can be used. Nothing is changed.

    Args:
        network: In evaluation mode, of any classes.
        data: As returned by `read_data`.
        checked: Of the same data.
        advance: Called with the number of images after each batch.
        shares: Out-of-fold probabilities [images, classes] of the training images, followed by the
            validation images, as `forebear.tasks.folds.read.shares_of` returns them. `network` is
            then that of a fold. Images of several labels have no label errors without them.

    Raises:
        ForebearError: A library is not installed.
        WeightsError: The features of an image are not finite.
    """
    usable = np.array([at for at, row in enumerate(checked.rows) if row.error is None], np.int64)
    seen = observe(network, data, usable, advance)
    rows = [checked.rows[place] for place in seen.places]
    contents = [(str(row.sha256), row.part) for row in rows]
    given = np.concatenate([data.train.labels, data.val.labels])[seen.places]
    several = data.multi_label
    # without classes, all images are compared with each other
    labels = np.zeros(len(given), np.int64) if several else given
    groups = near_duplicates(seen.hashes, seen.features, contents)
    families = _families(contents, groups)
    own = None if shares is None else shares[seen.places]
    methods: list[str] = []
    wrong: list[Suggestion] = []
    if several:
        wrong, said = _label_sets(given, own, families, rows, seen.places, data.classes)
        methods.append(said)
    else:
        parts = honest(network, data, rows, seen, labels, families, own)
        methods += [said for _, said in parts]
        errors = [label_errors(labels, found) for found, _ in parts]
        wrong = _labels(errors, rows, seen.places, data.classes)
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
            *wrong,
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


def _label_sets(
    labels: NDArray[np.uint8],
    shares: NDArray[np.float64] | None,
    families: NDArray[np.int64],
    rows: Sequence[Row],
    places: NDArray[np.int64],
    classes: Sequence[str],
) -> tuple[list[Suggestion], str]:
    """Returns the suggestions for images of several labels, and how they were found."""
    if shares is None:
        return [], (
            "label errors: not looked for, as images have several labels, and the network is not "
            "a cross-validation; pass the folder of train --folds"
        )
    found = label_set_errors(labels, shares, families)
    suggestions = [
        _suggestion(
            rows[at],
            places[at],
            kind="label",
            score=float(score),
            suggested=names(bits, classes),
            change=_change(labels[at], bits, classes),
        )
        for at, bits, score in zip(found.rows, found.suggested, found.scores, strict=True)
    ]
    judged = int((~np.isnan(shares).any(1)).sum())
    left = len(classes) - found.judged
    without = (
        f" ({left:,} that fewer than {LEAST} distinct images have, or lack, are left out)"
        if left
        else ""
    )
    return suggestions, (
        f"label errors of {judged:,} images in {found.judged:,} labels{without}: the out-of-fold "
        "probabilities of the cross-validation, each label on its own"
    )


def _change(given: NDArray[np.uint8], likely: NDArray[np.uint8], classes: Sequence[str]) -> str:
    """Returns which labels are likely missing and which likely wrong: "also cat, not dog"."""
    added = [classes[at] for at in np.flatnonzero(likely > given).tolist()]
    removed = [classes[at] for at in np.flatnonzero(likely < given).tolist()]
    kinds = (("also", added), ("not", removed))
    return ", ".join(f"{word} {' or '.join(some)}" for word, some in kinds if some)


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
