"""The bytes of an HDF5 file, with a budget for reading them."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import numpy as np

from forebear.weights.readers.base import Array

SIGNATURE = b"\x89HDF\r\n\x1a\n"
STEP = 32  # cost of a step, where a byte costs 1; a step takes about a microsecond
_MOST = 128 * 2**20  # the maximum budget; the metadata of ResNet152 take 2 MB


def find_hdf5(path: Path) -> int | None:
    """Returns the offset of HDF5's signature, or None. It may be at 0, 512, 1024, 2048, ..."""
    with path.open("rb") as file:
        size, place = path.stat().st_size, 0
        while place < size:
            file.seek(place)
            if file.read(len(SIGNATURE)) == SIGNATURE:
                return place
            place = 2 * place or 512
    return None


class Hdf5Bytes:
    """An open file, in which offsets count from the start of the HDF5 content.

    Metadata and steps use up a budget, so that circular references end in an error.
    """

    def __init__(self, file: IO[bytes], start: int) -> None:
        self._file, self.start = file, start
        self.size = file.seek(0, 2) - start
        self._budget = min(4 * self.size + 100_000, _MOST)

    def read(self, place: int, count: int) -> bytes:
        """Returns the bytes of metadata at an offset."""
        if place + count > self.size:
            raise ValueError(
                f"{count} bytes at offset {place} are beyond the end of the file at {self.size}"
            )
        self.spend(STEP + count)
        self._file.seek(self.start + place)
        return self._file.read(count)

    def spend(self, cost: int) -> None:
        """Takes the cost of a step from the budget."""
        self._budget -= cost
        if self._budget < 0:
            raise ValueError("it has circular references or too many parts")

    def fill(self, array: Array, place: int) -> None:
        """Reads a complete array at an offset. The values are not part of the budget."""
        self._file.seek(self.start + place)
        if self._file.readinto(array.reshape(-1).view(np.uint8)) != array.nbytes:  # type: ignore[attr-defined]
            raise ValueError("the file ends within its values")
