"""Labels of images in both forms: one class an image, or several.

One class an image is an array [N] of class indices, int64. Several are a matrix [N, classes] of 0
and 1, uint8; a row of zeros is an image without a label. The functions here take either form.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forebear.text import truncated

Labels = NDArray[Any]  # [N] int64, or [N, classes] uint8
NONE = "no label"  # in place of the names of an image without a label
_SHOWN = 3  # labels that are named


def is_multi(labels: Labels) -> bool:
    """Whether an image can have several labels."""
    return labels.ndim == 2


def counts(labels: Labels, classes: int) -> NDArray[np.int64]:
    """Returns the number of images [classes] that have each label."""
    if is_multi(labels):
        return np.asarray(labels.sum(0), np.int64)
    return np.bincount(labels, minlength=classes)


def without_label(labels: Labels) -> int:
    """Returns the number of images that have none of several labels; 0 with one class an image."""
    return int((~labels.any(1)).sum()) if is_multi(labels) else 0


def having(labels: Labels, number: int) -> NDArray[np.bool_]:
    """Returns which images [N] have a label."""
    found: NDArray[np.bool_] = labels[:, number] > 0 if is_multi(labels) else labels == number
    return found


def incidence(labels: Labels) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the pairs of an image and a label of it: indices of images and of labels.

    An image without a label has the pair with the number of the classes, as if that were a label,
    so that these images are distributed evenly too.
    """
    if not is_multi(labels):
        return np.arange(len(labels)), labels
    images, numbers = np.nonzero(labels)
    empty = np.flatnonzero(~labels.any(1))
    more = np.full(len(empty), labels.shape[1], np.int64)
    return np.concatenate([images, empty]), np.concatenate([numbers, more])


def strata(labels: Labels) -> NDArray[np.int64]:
    """Returns one label for each image [N], by which images can be stratified.

    Of several labels it is the rarest one, as the rare labels are those that an uneven split would
    lose (Sechidis et al. 2011, "On the stratification of multi-label data", section 3). An image
    without a label has the number of the classes.
    """
    if not is_multi(labels):
        return labels
    images, numbers = incidence(labels)
    frequent = np.bincount(numbers, minlength=labels.shape[1] + 1)
    found = np.empty(len(labels), np.int64)
    falling = np.lexsort((-numbers, -frequent[numbers]))  # the rarest is written last
    found[images[falling]] = numbers[falling]
    return found


def keys(labels: Labels) -> list[int]:
    """Returns a number below 2^64 for each image, which differs for other labels."""
    if not is_multi(labels):
        return [int(label) for label in labels]
    rows = np.ascontiguousarray(labels, np.uint8)
    return [int.from_bytes(hashlib.sha256(row.tobytes()).digest()[:8]) for row in rows]


def names(label: Any, classes: Sequence[str], separator: str = ";") -> str:
    """Returns the name of the class of one image, or the names of its labels, as one text.

    Args:
        label: An item of the labels: an index, or a row [classes] of 0 and 1.
        classes: Names in the order of the labels.
        separator: Between two names.
    """
    if np.ndim(label) == 0:
        return classes[int(label)]
    return separator.join(classes[int(at)] for at in np.flatnonzero(label)) or NONE


def listed(classes: Sequence[str]) -> str:
    """Returns the first few names, for a message."""
    more = ", ..." if len(classes) > _SHOWN else ""
    return ", ".join(truncated(name, 60) for name in classes[:_SHOWN]) + more
