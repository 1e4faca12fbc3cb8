"""Pairs of close hashes, against the comparison of all pairs."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from forebear.tasks.faults import close_hashes as module
from forebear.tasks.faults.close_hashes import MOST_BITS, close_pairs


def found(hashes: NDArray[np.uint64]) -> list[tuple[int, int]]:
    """The pairs, sorted; a pair that is found twice is there twice."""
    pairs = [
        pair
        for first, second in close_pairs(hashes)
        for pair in zip(first.tolist(), second.tolist(), strict=True)
    ]
    return sorted(pairs)


def compared(hashes: NDArray[np.uint64]) -> list[tuple[int, int]]:
    """The pairs, by comparing all of them."""
    differences = np.bitwise_count(hashes[:, None] ^ hashes[None])
    first, second = np.nonzero(np.triu(differences <= MOST_BITS, 1))
    return list(zip(first.tolist(), second.tolist(), strict=True))


def related(count: int, kinds: int, seed: int) -> NDArray[np.uint64]:
    """Hashes of a few kinds, which differ from their kind in 0 to 20 bits."""
    random = np.random.default_rng(seed)
    hashes = random.integers(0, 2**64, kinds, np.uint64)[random.integers(0, kinds, count)]
    for at in range(count):
        for bit in random.permutation(64)[: random.integers(0, 21)].tolist():
            hashes[at] ^= np.uint64(1 << bit)
    return hashes


@pytest.mark.parametrize(("count", "kinds"), [(0, 1), (1, 1), (300, 1), (700, 12), (700, 300)])
def test_the_pairs_are_those_of_comparing_all(count: int, kinds: int) -> None:
    hashes = related(count, kinds, seed=count + kinds)
    assert found(hashes) == compared(hashes)


def test_the_pairs_do_not_depend_on_how_many_are_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = related(200, 3, seed=5)
    expected = found(hashes)
    monkeypatch.setattr(module, "_CANDIDATES", 7)
    assert expected
    assert found(hashes) == expected


def test_ten_bits_are_found_wherever_they_are_and_eleven_are_not() -> None:
    # Bits of each band: the worst cases are those that use all the room of three bands.
    for spread in [(2, 2, 2, 4), (3, 3, 3, 1), (2, 3, 4, 1), (10, 0, 0, 0), (0, 0, 0, 10)]:
        bits = sum((2**count - 1) << (16 * band) for band, count in enumerate(spread))
        hashes = np.array([7, 7 ^ bits], np.uint64)
        assert found(hashes) == [(0, 1)], spread
    hashes = np.array([0, 0b11 << 62 | 2**9 - 1], np.uint64)
    assert found(hashes) == []


def test_equal_hashes_are_all_pairs() -> None:
    assert found(np.full(20, 3, np.uint64)) == list(combinations(range(20), 2))
