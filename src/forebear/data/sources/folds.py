"""Folds for cross-validation: every image validates once, and groups and copies stay together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from forebear.data.labels import Labels, counts, having, is_multi
from forebear.data.sources.units import distribute, units_of
from forebear.errors import DataError
from forebear.text import printable

_WORDS = {
    False: ("class", "classes", "of this class"),
    True: ("label", "labels", "with this label"),
}


def folds(
    digests: Sequence[bytes],
    labels: Labels,
    groups: NDArray[np.int64] | None,
    count: int,
    *,
    classes: Sequence[str] = (),
) -> NDArray[np.int64]:
    """Returns the fold [N] that validates each image, 0 to count - 1.

    Folds are stratified by class, or by each of several labels, as well as whole groups allow;
    see `distribute`. The folds do not depend on the order or the names of the images.

    Args:
        digests: The sha256 of each image [N]. All copies of an image are in one fold.
        labels: Class indices [N], or [N, classes] of 0 and 1. Images without a label are
            distributed evenly too, and there may be fewer of them than folds.
        groups: The group of each image [N], as in `Groups.numbers`; None if there are no groups.
        count: Number of folds, 2 or more.
        classes: Names of the classes, for the error message.

    Raises:
        ValueError: `count` is less than 2.
        DataError: A class or label has fewer images or groups than there are folds, or no way was
            found to leave it in the training part of every fold.
    """
    if count < 2:
        raise ValueError(f"folds={count}: expected 2 or more. Pass such a number.")
    units = units_of(digests, groups)
    width = labels.shape[1] if is_multi(labels) else int(labels.max(initial=-1)) + 1
    found = np.flatnonzero(counts(labels, width)).tolist()
    held = {label: len(np.unique(units[having(labels, label)])) for label in found}
    least = min(held, key=lambda label: (held[label], label), default=None)
    kind, others, of = _WORDS[is_multi(labels)]
    what = "different images" if groups is None else "separate groups"
    if least is None or held[least] < count:
        few = 0 if least is None else held[least]
        remedy = f"Pass a number from 2 to {few}, or add" if few > 1 else "Add"
        raise DataError(
            f"folds={count}: {_named(kind, least, classes)} has only {few} {what}. Expected one or "
            f"more for each fold. {remedy} images {of}."
        )
    chosen = distribute(units, labels, [1 / count] * count)
    units_are, leave = ("images", "") if groups is None else ("groups", ", or leave out the groups")
    for label in found:
        if len(np.unique(chosen[having(labels, label)])) < 2:
            raise DataError(
                f"folds={count}: {_named(kind, label, classes)} has {held[label]} {what}, but "
                f"together with the other {others} of these {units_are} they fit in one fold only. "
                f"Expected the {kind} in at least two folds. Add images {of}{leave}."
            )
    return chosen


def _named(kind: str, label: int | None, classes: Sequence[str]) -> str:
    if label is None:
        return "the data set"
    return f"{kind} {printable(classes[label]) if classes else label}"
