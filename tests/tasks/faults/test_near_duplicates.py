"""Near-duplicates of hashes and features made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from forebear.tasks.faults import near_duplicates as module
from forebear.tasks.faults.near_duplicates import Hashes, is_across, near_duplicates, unit

pytest.importorskip("scipy")


def made(count: int, seed: int = 0) -> tuple[Hashes, NDArray[np.float32], list[tuple[str, str]]]:
    """Images that have nothing in common, all in train."""
    random = np.random.default_rng(seed)
    words = random.integers(0, 2**64, (count, 5), np.uint64)
    features = random.normal(size=(count, 16)).astype(np.float32)
    contents = [(str(at), "train") for at in range(count)]
    return Hashes(words[:, 0].copy(), words[:, 1:].copy()), features, contents


def alike(hashes: Hashes, features: NDArray[np.float32], at: int, other: int, bits: int) -> None:
    """Makes an image like another one, but for some of the 64 bits."""
    hashes.coarse[at] = hashes.coarse[other] ^ np.uint64(2**bits - 1)
    hashes.fine[at] = hashes.fine[other]
    features[at] = features[other]


def test_images_that_have_nothing_in_common_are_no_group() -> None:
    assert near_duplicates(*made(500)) == []


def test_no_images_are_no_group() -> None:
    assert near_duplicates(*made(0)) == []


@pytest.mark.parametrize(("bits", "found"), [(0, 1), (10, 1), (11, 0)])
def test_the_coarse_hashes_may_differ_in_ten_bits(bits: int, found: int) -> None:
    hashes, features, contents = made(30)
    alike(hashes, features, 20, 4, bits)
    groups = near_duplicates(hashes, features, contents)
    assert [group.members for group in groups] == [(4, 20)] * found


@pytest.mark.parametrize(("bits", "found"), [(48, 1), (49, 0)])
def test_the_fine_hashes_confirm_a_pair(bits: int, found: int) -> None:
    hashes, features, contents = made(30)
    alike(hashes, features, 20, 4, 0)
    hashes.fine[20, 3] ^= np.uint64(2**bits - 1)
    assert len(near_duplicates(hashes, features, contents)) == found


@pytest.mark.parametrize(("cosine", "found"), [(0.51, 1), (0.49, 0)])
def test_the_features_confirm_a_pair(cosine: float, found: int) -> None:
    hashes, features, contents = made(30)
    alike(hashes, features, 20, 4, 0)
    features[4], features[20] = 0, 0
    features[4, 0], features[20, :2] = 3, (2 * cosine, 2 * (1 - cosine**2) ** 0.5)
    groups = near_duplicates(hashes, features, contents)
    assert len(groups) == found
    assert [group.similarity[0] for group in groups] == pytest.approx([cosine] * found, abs=1e-5)


def test_groups_across_parts_come_first_then_the_most_similar_ones() -> None:
    hashes, features, contents = made(30)
    for at, other in ((1, 0), (3, 2), (5, 4)):
        alike(hashes, features, at, other, 2)
    features[5] += 0.3 * features[20]
    features[1] += 0.1 * features[20]
    contents[5] = ("5", "val")
    groups = near_duplicates(hashes, features, contents)
    assert [group.members for group in groups] == [(4, 5), (2, 3), (0, 1)]
    assert [is_across(group, contents) for group in groups] == [True, False, False]


def test_a_group_is_a_chain_in_which_each_image_resembles_an_earlier_member() -> None:
    hashes, features, contents = made(40)
    alike(hashes, features, 30, 10, 8)
    alike(hashes, features, 20, 30, 8)
    hashes.coarse[20] ^= np.uint64(255 << 20)  # 8 bits to 30, 16 to 10
    hashes.coarse[20] ^= np.uint64(255)
    (group,) = near_duplicates(hashes, features, contents)
    assert group.members == (10, 30, 20)
    assert group.resembles == (10, 30)


def test_copies_are_not_repeated() -> None:
    hashes, features, contents = made(30)
    for at in (10, 11, 12):
        alike(hashes, features, at, 9, 0)
    contents[9:13] = [("same", "train"), ("same", "train"), ("same", "val"), ("other", "val")]
    (group,) = near_duplicates(hashes, features, contents)
    assert sorted(group.members) == [9, 11, 12]
    contents[12] = ("same", "val")
    assert near_duplicates(hashes, features, contents) == []


def test_many_images_of_a_kind_take_one_edge_each(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes, features, contents = made(300)
    for at in range(1, 200):
        alike(hashes, features, at, 0, 0)
    alike(hashes, features, 290, 250, 3)
    monkeypatch.setattr(module, "_PAIRS", 3_000)  # a fraction of the pairs
    pair, group = sorted(near_duplicates(hashes, features, contents), key=lambda g: len(g.members))
    assert sorted(group.members) == list(range(200))
    assert len(group.similarity) == 199
    assert pair.members == (250, 290)


def test_unit_rows_keep_zeros() -> None:
    rows = unit(np.array([[3, 4], [0, 0]], np.float32))
    assert rows.tolist() == pytest.approx(np.array([[0.6, 0.8], [0, 0]]))
