"""Groups of images that stay in one part: the images of one patient, video or place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

P = TypeVar("P", bound=str)


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """The group of each of N images. The parts of a data set share the names."""

    by: str  # the column or the pattern, as given to --group-by
    names: tuple[str, ...]  # of all groups of the data set, sorted
    numbers: NDArray[np.int64]  # [N], indices of `names`

    @property
    def count(self) -> int:
        """Number of groups that have images here."""
        return len(np.unique(self.numbers))

    def name(self, index: int) -> str:
        """Returns the name of the group of an image."""
        return self.names[int(self.numbers[index])]

    def take(self, indices: NDArray[np.int64]) -> Groups:
        """Returns the groups of the images at `indices`, in that order."""
        return replace(self, numbers=self.numbers[indices])


def grouped(by: str, parts: Mapping[P, Sequence[str]]) -> dict[P, Groups]:
    """Returns the groups of the images of each part.

    Args:
        by: The column or the pattern that the names come from.
        parts: For each part, the name of the group of each image.
    """
    names = tuple(sorted({name for part in parts.values() for name in part}))
    number = {name: at for at, name in enumerate(names)}
    return {
        part: Groups(by, names, np.array([number[name] for name in own], dtype=np.int64))
        for part, own in parts.items()
    }
