"""Counter-based random numbers, keyed by seed, epoch and image.

Each number is a hash of its key. It does not depend on the order of the images, the batch, the
worker or the number of processes, and resuming a run needs no saved generator state.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

# Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators", as in Vigna's
# splitmix64.c: the step of the counter (2**64 over the golden ratio) and the mixer's constants.
_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_30, _27, _31, _11 = (np.uint64(bits) for bits in (30, 27, 31, 11))


@dataclass(frozen=True, slots=True, eq=False)
class CounterRNG:
    """Random numbers for n images, one row per image, independent of the other images."""

    seed: int
    epoch: int
    samples: NDArray[np.int64]  # [n], indices of the images in the whole data set
    views: int | NDArray[np.int64] = 0  # or [n]: which augmented view of the image in this epoch

    def __len__(self) -> int:
        return len(self.samples)

    def of_epoch(self, epoch: int) -> CounterRNG:
        """Returns the generator of the same images in another epoch."""
        return replace(self, epoch=epoch)

    def of_views(self, views: int | NDArray[np.int64]) -> CounterRNG:
        """Returns the generator of other views of the same images; one index each, or for all."""
        return replace(self, views=views)

    def uniform(self, what: str, count: int | None = None) -> NDArray[np.float64]:
        """Returns uniform numbers in [0, 1), of shape [n] or [n, count].

        Equal strings `what` give equal numbers, and different ones independent numbers. The first
        column of [n, count] equals [n].
        """
        # 53 bits give every double of that spacing, and never 1.
        values: NDArray[np.float64] = (self._bits(what, count) >> _11) * np.float64(2.0**-53)
        return values

    def integers(self, what: str, high: int, count: int | None = None) -> NDArray[np.int64]:
        """Returns uniform integers from 0 to high - 1, of shape [n] or [n, count]."""
        return (self.uniform(what, count) * high).astype(np.int64)

    def normal(self, what: str, count: int | None = None) -> NDArray[np.float64]:
        """Returns standard normal numbers, of shape [n] or [n, count] (Box and Muller 1958).

        The last bits can differ between machines, with their logarithm and cosine.
        """
        pairs = self.uniform(what, 2 * (1 if count is None else count))
        radius = np.sqrt(-2 * np.log1p(-pairs[:, 0::2]))
        values: NDArray[np.float64] = radius * np.cos(2 * np.pi * pairs[:, 1::2])
        return values[:, 0] if count is None else values

    def _bits(self, what: str, count: int | None) -> NDArray[np.uint64]:
        """Returns uniform uint64 [n] or [n, count], from one splitmix64 stream per image."""
        samples = np.asarray(self.samples).astype(np.uint64)
        views = np.asarray(self.views).astype(np.uint64)
        # The mixer is a bijection, so no two images of a key share a stream.
        streams = _mixed(np.uint64(_key(self.seed, self.epoch, what)) + _STEP * samples)
        streams = _mixed(streams + _STEP * views)
        if count is None:
            return _mixed(streams + _STEP)
        return _mixed(streams[:, None] + _STEP * np.arange(1, count + 1, dtype=np.uint64))


def _key(seed: int, epoch: int, what: str) -> int:
    name = repr((seed, epoch, what)).encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")


def _mixed(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = (state ^ (state >> _30)) * _FIRST
    state = (state ^ (state >> _27)) * _SECOND
    return state ^ (state >> _31)
