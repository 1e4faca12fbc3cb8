"""Chance that hangs on what it is drawn for alone: the seed, the epoch and the picture.

A number is a hash of its name, so that no order, batch, worker or number of processes can change
it, and nothing has to be saved to go on from where a run stopped.
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
    """Random numbers for some pictures: one row a picture, the same in whatever company."""

    seed: int
    epoch: int
    samples: NDArray[np.int64]  # [n], numbers of the pictures in the whole data
    views: int | NDArray[np.int64] = 0  # or [n]: which of a picture's views in this epoch

    def __len__(self) -> int:
        return len(self.samples)

    def of_epoch(self, epoch: int) -> CounterRNG:
        """The same pictures in another epoch."""
        return replace(self, epoch=epoch)

    def of_views(self, views: int | NDArray[np.int64]) -> CounterRNG:
        """Other views of the same pictures in the same epoch, one number each or one for all."""
        return replace(self, views=views)

    def uniform(self, what: str, count: int | None = None) -> NDArray[np.float64]:
        """From 0 up to 1, [n] or [n, count], of which the first column is the [n].

        Other words for `what` give independent numbers, the same ones the same.
        """
        # 53 bits: every double of that spacing, and never 1.
        values: NDArray[np.float64] = (self._bits(what, count) >> _11) * np.float64(2.0**-53)
        return values

    def integers(self, what: str, high: int, count: int | None = None) -> NDArray[np.int64]:
        """From 0 to high - 1, all alike, [n] or [n, count]."""
        return (self.uniform(what, count) * high).astype(np.int64)

    def normal(self, what: str, count: int | None = None) -> NDArray[np.float64]:
        """Mean 0, variance 1, [n] or [n, count]: Box and Muller 1958.

        The last bits are those of the machine's logarithm and cosine.
        """
        pairs = self.uniform(what, 2 * (1 if count is None else count))
        radius = np.sqrt(-2 * np.log1p(-pairs[:, 0::2]))
        values: NDArray[np.float64] = radius * np.cos(2 * np.pi * pairs[:, 1::2])
        return values[:, 0] if count is None else values

    def _bits(self, what: str, count: int | None) -> NDArray[np.uint64]:
        """Uniform uint64 [n] or [n, count]: a stream of splitmix64 for each picture."""
        samples = np.asarray(self.samples).astype(np.uint64)
        views = np.asarray(self.views).astype(np.uint64)
        # The mixer is one to one, so that no two pictures of a key share a stream.
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
