"""Finds all pairs of 64-bit hashes that differ in few bits, without comparing all pairs.

Multi-index hashing (Norouzi, Punjani and Fleet 2012, section 3) on four bands of 16 bits: if two
hashes differ in at most 10 bits, the bands differ in at most 2, 2, 2 and 1 bits in at least one
place, since 3 + 3 + 3 + 2 bits would be 11. Each band is looked up with all such differences, which
gives 0.7 % of all pairs of random hashes as candidates.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

MOST_BITS = 10  # largest Hamming distance, of 64
_BAND = 16  # bits
_RADII = (2, 2, 2, 1)  # sum of (radius + 1) = MOST_BITS + 1
_CANDIDATES = 2**22  # pairs that are in memory at a time

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]


def close_pairs(hashes: NDArray[np.uint64]) -> Iterator[Pairs]:
    """Yields the pairs of hashes that differ in at most `MOST_BITS` bits, each pair once.

    Args:
        hashes: [n].

    Yields:
        The smaller and the larger index of some pairs, both [pairs].
    """
    # An array of one byte order, as the bands are views of it.
    bands = np.ascontiguousarray(hashes, "<u8").view("<u2").reshape(-1, len(_RADII))
    for band, radius in enumerate(_RADII):
        keys = bands[:, band]
        order = np.argsort(keys, kind="stable")
        starts = np.searchsorted(keys[order], np.arange(2**_BAND + 1))
        for mask in _masks(radius):
            for first, second in _sharing(keys ^ mask, order, starts):
                close = np.bitwise_count(hashes[first] ^ hashes[second]) <= MOST_BITS
                first, second = first[close], second[close]
                new = ~_found_before(bands[first] ^ bands[second], band)
                if new.any():
                    yield first[new], second[new]


def _masks(radius: int) -> list[np.uint16]:
    """Returns all differences of at most `radius` bits in a band."""
    places = [places for count in range(radius + 1) for places in combinations(range(_BAND), count)]
    return [np.uint16(sum(1 << place for place in some)) for some in places]


def _sharing(
    sought: NDArray[np.uint16], order: NDArray[np.int64], starts: NDArray[np.int64]
) -> Iterator[Pairs]:
    """Yields the pairs of an image and a later one whose band is the value that the first seeks.

    Args:
        sought: Value of the band of the second image, for each first image [n].
        order: Indices [n] of the images in the order of their bands.
        starts: First place in `order` of each value of the band [65537].
    """
    begins = starts[sought]
    counts = starts[sought.astype(np.int64) + 1] - begins
    ends = counts.cumsum()
    at = 0
    while at < len(counts):
        done = ends[at] - counts[at]
        until = max(at + 1, int(np.searchsorted(ends, done + _CANDIDATES, "right")))
        own = counts[at:until]
        first = np.repeat(np.arange(at, until), own)
        within = np.arange(len(first)) - np.repeat(ends[at:until] - own - done, own)
        second = order[np.repeat(begins[at:until], own) + within]
        later = first < second
        yield first[later], second[later]
        at = until


def _found_before(differences: NDArray[np.uint16], band: int) -> NDArray[np.bool_]:
    """Returns which pairs an earlier band has found already.

    Args:
        differences: Of the bands, [pairs, 4].
        band: The current one.
    """
    bits = np.bitwise_count(differences[:, :band])
    return np.asarray((bits <= np.array(_RADII[:band], np.uint8)).any(1), np.bool_)
