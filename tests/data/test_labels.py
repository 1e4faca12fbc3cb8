from __future__ import annotations

import numpy as np
import pytest

from forebear.data.labels import (
    counts,
    having,
    incidence,
    is_multi,
    keys,
    names,
    strata,
    without_label,
)
from forebear.data.sources.units import distribute
from forebear.data.strata import stratified

ONE = np.array([2, 0, 2], np.int64)
SEVERAL = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0], [1, 1, 0], [1, 0, 1]], np.uint8)


def test_counts_and_members_of_both_forms() -> None:
    assert not is_multi(ONE)
    assert is_multi(SEVERAL)
    assert counts(ONE, 4).tolist() == [1, 0, 2, 0]
    assert counts(SEVERAL, 3).tolist() == [4, 2, 1]
    assert having(ONE, 2).tolist() == [True, False, True]
    assert having(SEVERAL, 1).tolist() == [True, False, False, True, False]


def test_images_without_a_label_are_counted() -> None:
    assert without_label(SEVERAL) == 1
    assert without_label(SEVERAL[:2]) == without_label(SEVERAL[:0]) == 0
    assert without_label(ONE) == 0


def test_counts_do_not_overflow_the_bytes_of_the_matrix() -> None:
    assert counts(np.ones((300, 2), np.uint8), 2).tolist() == [300, 300]


def test_an_image_without_a_label_is_a_pair_with_one_more_label() -> None:
    images, numbers = incidence(SEVERAL)
    pairs = sorted(zip(images.tolist(), numbers.tolist(), strict=True))
    assert pairs == [(0, 0), (0, 1), (1, 0), (2, 3), (3, 0), (3, 1), (4, 0), (4, 2)]


def test_the_stratum_of_an_image_is_its_rarest_label() -> None:
    assert strata(SEVERAL).tolist() == [1, 0, 3, 1, 2]
    assert strata(ONE) is ONE


def test_a_key_differs_for_other_labels_only() -> None:
    assert keys(ONE) == [2, 0, 2]
    found = keys(SEVERAL)
    assert found[0] == found[3]
    assert len(set(found)) == 4
    assert max(found) < 2**64


@pytest.mark.parametrize(("row", "said"), [(0, "a;b"), (1, "a"), (2, "no label")])
def test_the_labels_of_an_image_are_named(row: int, said: str) -> None:
    assert names(SEVERAL[row], "abc") == said
    assert names(np.int64(1), "abc") == "b"


def random_labels(count: int = 600) -> np.ndarray:
    """Labels that are from frequent to rare: about half of the images down to 2 % of them."""
    random = np.random.default_rng(0)
    return (random.random((count, 5)) < [0.5, 0.3, 0.1, 0.04, 0.02]).astype(np.uint8)


def test_a_split_keeps_the_share_of_every_label_and_of_images_without_one() -> None:
    labels = random_labels()
    part = distribute(np.arange(len(labels)), labels, (0.8, 0.2))
    for label in range(5):
        own = part[labels[:, label] > 0]
        assert abs((own == 1).mean() - 0.2) < 1 / len(own) + 0.01, label
    assert (part[~labels.any(1)] == 1).mean() == pytest.approx(0.2, abs=0.02)
    assert (part == 1).mean() == pytest.approx(0.2, abs=0.01)


def test_groups_with_several_labels_stay_together() -> None:
    labels, groups = random_labels(), np.repeat(np.arange(120), 5)
    part = distribute(groups, labels, (0.8, 0.2))
    assert all(len(set(part[groups == group].tolist())) == 1 for group in range(120))
    assert {0, 1} == set(part[labels[:, 4] > 0].tolist())


def test_every_prefix_of_a_stratified_order_has_the_rare_labels_in_proportion() -> None:
    labels = random_labels()
    order = stratified(labels, seed=1)
    assert sorted(order.tolist()) == list(range(600))
    rare = labels[order, 4].cumsum()
    assert all(abs(rare[n - 1] - n / 600 * rare[-1]) <= 1.5 for n in range(1, 601))
