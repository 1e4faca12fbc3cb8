from __future__ import annotations

import hashlib

import numpy as np
import pytest
from numpy.typing import NDArray

from forebear.data.sources.units import distribute, units_of


def hashes(contents: NDArray[np.int64]) -> list[bytes]:
    return [hashlib.sha256(str(content).encode()).digest() for content in contents.tolist()]


def whole(of: NDArray[np.int64], parts: NDArray[np.int64]) -> bool:
    """Whether each value of `of` is in one part."""
    return all(len(np.unique(parts[of == one])) == 1 for one in np.unique(of))


def test_without_groups_copies_are_a_unit() -> None:
    contents = np.array([4, 7, 4, 9, 7])
    units = units_of(hashes(contents))
    assert sorted(np.unique(units).tolist()) == [0, 1, 2]
    assert whole(contents, units)
    assert whole(units, contents)


def test_groups_that_share_a_content_are_one_unit_through_any_chain() -> None:
    groups = np.array([0, 0, 1, 1, 2, 3])
    contents = np.array([10, 11, 11, 12, 12, 13])  # 0 and 1 share 11, 1 and 2 share 12
    units = units_of(hashes(contents), groups)
    assert units[:5].tolist() == [units[0]] * 5
    assert units[5] != units[0]


def test_units_are_numbered_by_content_alone() -> None:
    random = np.random.default_rng(0)
    contents, groups = random.integers(0, 300, 400), random.integers(0, 150, 400)
    units = units_of(hashes(contents), groups)
    order, names = random.permutation(400), random.permutation(150)
    np.testing.assert_array_equal(
        units_of(hashes(contents[order]), names[groups[order]]), units[order]
    )


@pytest.mark.parametrize("fraction", [0.1, 0.15, 0.5])
def test_every_class_gives_its_share_to_within_one_group(fraction: float) -> None:
    random = np.random.default_rng(1)
    groups = random.integers(0, 90, 2000)
    labels = groups % 3  # each group has one class
    parts = distribute(groups, labels, [1 - fraction, fraction])
    assert whole(groups, parts)
    for label in range(3):
        own = labels == label
        largest = np.bincount(groups[own]).max()
        assert abs((parts[own] == 1).sum() - fraction * own.sum()) <= largest


def test_large_and_small_groups_are_on_both_sides() -> None:
    sizes = np.repeat([1, 20], [400, 20])  # half of the images are in the large groups
    groups = np.repeat(np.arange(420), sizes)
    parts = distribute(groups, np.zeros(800, np.int64), [0.8, 0.2])
    held = np.array([parts[groups == group][0] for group in range(420)])
    assert 2 <= (held[400:] == 1).sum() <= 6
    assert 40 <= (held[:400] == 1).sum() <= 120


def test_groups_of_several_classes_keep_the_proportions() -> None:
    random = np.random.default_rng(2)
    groups = random.integers(0, 60, 3000)
    labels = random.choice(4, 3000, p=[0.6, 0.3, 0.08, 0.02])
    parts = distribute(groups, labels, [0.85, 0.15])
    assert whole(groups, parts)
    shares = np.bincount(labels[parts == 1]) / np.bincount(labels)
    assert (abs(shares - 0.15) < 0.04).all()


def test_a_part_without_a_class_gets_a_group_of_it() -> None:
    # Two groups a class, so that the first ones alone would fill the training part.
    groups, labels = np.repeat([0, 1, 2, 3], [9, 8, 5, 5]), np.repeat([0, 0, 1, 1], [9, 8, 5, 5])
    parts = distribute(groups, labels, [0.9, 0.1])
    assert [np.unique(parts[labels == label]).tolist() for label in (0, 1)] == [[0, 1], [0, 1]]


def test_a_move_takes_no_class_away_from_a_part() -> None:
    # Found by trying: the cheapest move into the small part would take a class from the large one.
    groups = np.array([2, 1, 3, 2, 1, 0, 1, 1, 2, 3, 3, 1, 3, 1])
    labels = np.array([1, 3, 0, 0, 3, 1, 2, 2, 2, 3, 2, 1, 0, 2])
    parts = distribute(groups, labels, [0.8, 0.2])
    assert [np.unique(parts[labels == label]).tolist() for label in range(4)] == [[0, 1]] * 4


def test_nothing_is_distributed_in_no_images() -> None:
    none = np.zeros(0, np.int64)
    assert distribute(units_of([]), none, [0.5, 0.5]).tolist() == []
