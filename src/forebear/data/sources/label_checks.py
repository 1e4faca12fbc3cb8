"""Checks on labels, so that a wrong one is named here and not by a crash on an accelerator."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from forebear.errors import DataError


def checked_labels(labels: NDArray[Any], classes: tuple[str, ...], where: str) -> NDArray[np.int64]:
    """The labels as int64.

    Args:
        labels: Integers [N].
        classes: Their names; the labels must lie in 0..len(classes) - 1.
        where: The file and the array or column, for the message.

    Raises:
        DataError: A label has no class.
    """
    wrong = np.flatnonzero((labels < 0) | (labels >= len(classes)))
    if wrong.size:
        first = int(wrong[0])
        raise DataError(
            f"{where}: label {labels[first]} at {first} ({wrong.size} such labels). Expected 0 to "
            f"{len(classes) - 1}, for {len(classes)} classes. Correct the labels or drop the rows."
        )
    return labels.astype(np.int64)


def numbered_classes(labels: NDArray[Any], where: str, *, remedy: str) -> tuple[str, ...]:
    """The classes "0", "1", ... of labels that come without names.

    Args:
        labels: Integers [N] of the training pictures.
        where: The file and the array or column, for the message.
        remedy: How the classes could be named in this kind of file.

    Raises:
        DataError: Not every number from 0 to the greatest is there. Labels from 1 would give the
            network a class that never occurs; hashes or identifiers, millions of them.
    """
    found = np.unique(labels)
    if not np.array_equal(found, np.arange(len(found))):
        shown = ", ".join(map(str, found[:5])) + (", ..." if len(found) > 5 else "")
        raise DataError(
            f"{where}: labels {shown}. Expected every number from 0 to the greatest, as the "
            f"classes have no names. Renumber the labels, or {remedy}."
        )
    return tuple(map(str, found))
