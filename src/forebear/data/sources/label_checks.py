"""Checks on labels, which on a GPU would otherwise fail later with an obscure error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forebear.errors import DataError
from forebear.limits import CLASS_NAME, CLASSES
from forebear.text import truncated


def checked_labels(labels: NDArray[Any], classes: tuple[str, ...], where: str) -> NDArray[np.int64]:
    """Returns the labels as int64, after checking their range.

    Args:
        labels: Integers [N].
        classes: Class names; labels must be in 0..len(classes) - 1.
        where: The file and the array or column, for the error message.

    Raises:
        DataError: A label is out of range.
    """
    wrong = np.flatnonzero((labels < 0) | (labels >= len(classes)))
    if wrong.size:
        first = int(wrong[0])
        raise DataError(
            f"{where}: label {labels[first]} at index {first} ({wrong.size} such labels). Expected "
            f"0 to {len(classes) - 1} for {len(classes)} classes. Correct the labels or drop the "
            "rows."
        )
    return labels.astype(np.int64)


def numbered_classes(labels: NDArray[Any], where: str, *, remedy: str) -> tuple[str, ...]:
    """Returns the class names "0", "1", ... for labels without names.

    Args:
        labels: Integers [N] of the training images.
        where: The file and the array or column, for the error message.
        remedy: How to name the classes in this kind of file, for the error message.

    Raises:
        DataError: Some number from 0 to the largest label does not occur. Labels that start at 1
            would add a class without images; hashes or identifiers would add millions of them.
    """
    found = np.unique(labels)
    if not np.array_equal(found, np.arange(len(found))):
        shown = ", ".join(map(str, found[:5])) + (", ..." if len(found) > 5 else "")
        raise DataError(
            f"{where}: labels {shown}. Expected every number from 0 to the largest, because the "
            f"classes have no names. Renumber the labels, or {remedy}."
        )
    return tuple(map(str, found))


def checked_classes(names: Sequence[str], where: str) -> tuple[str, ...]:
    """Returns the class names, all of which can be printed, saved and distinguished.

    Args:
        names: Class names, in the order of the labels.
        where: The file or folder, for the error message.

    Raises:
        DataError: There are none or too many, or a name is empty, too long, not UTF-8 or repeated.
    """
    if not 1 <= len(names) <= CLASSES:
        raise DataError(
            f"{where}: {len(names):,} classes. Expected 1 to {CLASSES:,}. Check the labels."
        )
    seen: set[str] = set()
    for name in names:
        fault = _fault(name) or ("is the name of two classes" if name in seen else "")
        if fault:
            raise DataError(
                f"{where}: the class name {truncated(repr(name))} {fault}. Expected different "
                f"names of 1 to {CLASS_NAME:,} characters in UTF-8. Rename the class."
            )
        seen.add(name)
    return tuple(names)


def _fault(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        return "is not UTF-8"
    if not name.strip():
        return "is empty"
    return "" if len(name) <= CLASS_NAME else f"has {len(name):,} characters"
