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

_CHUNK = 64  # pictures between two reports of progress


class Store:
    """Indexed by picture numbers [n], gives uint8 [n, side, side, C].

    The shorter side of a picture is brought to `side` (Pillow's bilinear filter; large JPEGs are
    decoded at a reduced scale first) and the middle is cut out. Pictures that are arrays of this
    very shape are handed on untouched.
    """

    def __init__(self, pictures: Pictures, side: int, *, memory: int = 2 * 2**30) -> None:
        """Reads nothing yet.

        Args:
            pictures: What to decode.
            side: Pixels.
            memory: Bytes that `fill` may take.
        """
        self.pictures = pictures
        self.shape = (len(pictures), side, side, pictures.channels)
        self.fits = int(np.prod(self.shape, dtype=np.int64)) <= memory
        self._rule = _square(side, pictures.channels)
        # Pillow lets go of the interpreter lock while it decodes and resizes.
        self._threads = ThreadPoolExecutor(_processors(), "decode")
        self._kept: NDArray[np.uint8] | None = None
        if isinstance(pictures, ArrayPictures) and pictures.pixels.shape == self.shape:
            self._kept = pictures.pixels

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.uint8]:
        """A copy of these pictures, in this order.

        Raises:
            DataError: A picture cannot be decoded; it is named, never replaced by another.
        """
        wanted = np.asarray(indices, dtype=np.int64)
        if self._kept is not None:
            return self._kept[wanted]
        squares = np.empty((len(wanted), *self.shape[1:]), dtype=np.uint8)
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
        squares = np.empty(self.shape, dtype=np.uint8)
        for start in range(0, len(self), _CHUNK):
            stop = min(start + _CHUNK, len(self))
            squares[start:stop] = self[range(start, stop)]
            if progress is not None:
                progress(stop, len(self))
        self._kept = squares

    def _decode(self, index: int) -> NDArray[np.uint8]:
        picture = self.pictures.picture(index, at_least=self._rule.size)
        return fit(picture, self._rule).astype(np.uint8, copy=False)


def _processors() -> int:
    """Those that this process may use, where the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _square(side: int, channels: int) -> Preprocessing:
    """The geometry alone: values are left as they are."""
    return Preprocessing(
        size=side,
        resize="shorter",
        side=side,
        central=1.0,
        interpolation="bilinear",
        order="L" if channels == 1 else "RGB",
        scale=1.0,
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
    )
