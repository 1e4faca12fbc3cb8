"""Pictures as square uint8 arrays, decoded by a pool of threads and kept when they fit."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from forebear.data.pictures import ArrayPictures, Pictures
from forebear.data.preprocess import fit
from forebear.tables.preprocessing import Preprocessing

Pixels = NDArray[np.uint8] | NDArray[np.float32]
_CHUNK = 64  # pictures between two reports of progress


class Store:
    """Indexed by picture numbers [n], gives uint8 [n, size, size, C] as a rule's `fit` does.

    float32 where the rule does not round between pixels. Pictures that are arrays of this very
    shape are handed on untouched.
    """

    def __init__(
        self,
        pictures: Pictures,
        rule: Preprocessing,
        *,
        reduced: bool = False,
        memory: int = 2 * 2**30,
    ) -> None:
        """Reads nothing yet.

        Args:
            pictures: What to decode.
            rule: Its geometry is carried out; values stay in 0..255.
            reduced: Decode large JPEGs at a reduced scale first: faster, and not to the last bit
                what `preprocess` gives.
            memory: Bytes that `fill` may take.
        """
        self.pictures = pictures
        self.shape = (len(pictures), rule.size, rule.size, rule.channels)
        self.dtype = np.dtype(np.float32 if rule.interpolation == "tf-bilinear" else np.uint8)
        size = self.dtype.itemsize * int(np.prod(self.shape, dtype=np.int64))
        self.fits = size <= memory
        self._rule = rule
        self._at_least = rule.side if reduced and rule.resize == "shorter" else None
        # Pillow lets go of the interpreter lock while it decodes and resizes.
        self._threads = ThreadPoolExecutor(_processors(), "decode")
        self._kept: Pixels | None = None
        untouched = rule.resize in ("shorter", "none") and rule.side == rule.size
        if (
            untouched
            and isinstance(pictures, ArrayPictures)
            and pictures.pixels.shape == self.shape
        ):
            self._kept = pictures.pixels

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, indices: Sequence[int] | NDArray[np.int64]) -> Pixels:
        """A copy of these pictures, in this order.

        Raises:
            DataError: A picture cannot be decoded; it is named, never replaced by another.
        """
        wanted = np.asarray(indices, dtype=np.int64)
        if self._kept is not None:
            return self._kept[wanted]
        squares = np.empty((len(wanted), *self.shape[1:]), dtype=self.dtype)
        for place, square in enumerate(self._threads.map(self._decode, wanted.tolist())):
            squares[place] = square
        return squares

    def fill(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Decodes all pictures once and keeps them, or does nothing when they do not fit.

        Args:
            progress: Called in this thread with the number of pictures done and of all.

        Raises:
            DataError: A picture cannot be decoded. Nothing is kept then.
        """
        if self._kept is not None or not self.fits:
            return
        squares = np.empty(self.shape, dtype=self.dtype)
        for start in range(0, len(self), _CHUNK):
            stop = min(start + _CHUNK, len(self))
            squares[start:stop] = self[range(start, stop)]
            if progress is not None:
                progress(stop, len(self))
        self._kept = squares

    def _decode(self, index: int) -> Pixels:
        return fit(self.pictures.picture(index, at_least=self._at_least), self._rule)


def _processors() -> int:
    """Those that this process may use, where the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
