"""Folds for cross-validation: every image validates once, and groups and copies stay together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from forebear.data.sources.units import distribute, units_of
from forebear.errors import DataError
from forebear.text import printable


def folds(
    digests: Sequence[bytes],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64] | None,
    count: int,
    *,
    classes: Sequence[str] = (),
) -> NDArray[np.int64]:
    """Returns the fold [N] that validates each image, 0 to count - 1.

    Folds are stratified by class as well as whole groups allow. The folds do not depend on the
    order or the names of the images.

    Args:
        digests: The sha256 of each image [N]. All copies of an image are in one fold.
        labels: Class indices [N].
        groups: The group of each image [N], as in `Groups.numbers`; None if there are no groups.
        count: Number of folds, 2 or more.
        classes: Names of the classes, for the error message.

    Raises:
        ValueError: `count` is less than 2.
        DataError: A class has fewer images or groups than there are folds, or no way was found to
            leave it in the training part of every fold.
    """
    if count < 2:
        raise ValueError(f"folds={count}: expected 2 or more. Pass such a number.")
    units = units_of(digests, groups)
    found = np.unique(labels).tolist()
    held = {label: len(np.unique(units[labels == label])) for label in found}
    least = min(held, key=lambda label: (held[label], label), default=None)
    what = "different images" if groups is None else "separate groups"
    if least is None or held[least] < count:
        few = 0 if least is None else held[least]
        remedy = f"Pass a number from 2 to {few}, or add" if few > 1 else "Add"
        raise DataError(
            f"folds={count}: {_named(least, classes)} has only {few} {what}. Expected one or "
            f"more for each fold. {remedy} images of this class."
        )
    chosen = distribute(units, labels, [1 / count] * count)
    for label in found:
        if len(np.unique(chosen[labels == label])) < 2:
            raise DataError(
                f"folds={count}: {_named(label, classes)} has {held[label]} {what}, but together "
                "with the other classes of these groups they fit in one fold only. Expected the "
                "class in at least two folds. Add images of this class, or leave out the groups."
            )
    return chosen


def _named(label: int | None, classes: Sequence[str]) -> str:
    if label is None:
        return "the data set"
    return f"class {printable(classes[label]) if classes else label}"
