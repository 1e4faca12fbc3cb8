from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from forebear.data.balanced_draws import balanced_draws

LABELS = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, 5], [40, 17, 3, 1]))


def draws(epoch: int, count: int = len(LABELS), seed: int = 4) -> tuple[NDArray[np.int64], ...]:
    return balanced_draws(LABELS, count, seed=seed, epoch=epoch)


@pytest.mark.parametrize("count", [61, 60, 20, 3])
@pytest.mark.parametrize("epoch", [1, 2, 7])
def test_the_classes_of_an_epoch_are_equally_frequent_and_no_image_looks_the_same_twice(
    count: int, epoch: int
) -> None:
    chosen, seen = draws(epoch, count)
    assert len(chosen) == len(seen) == count
    frequency = np.array([np.count_nonzero(LABELS[chosen] == label) for label in (0, 1, 2, 5)])
    assert frequency.max() - frequency.min() <= 1
    assert len(set(zip(chosen.tolist(), seen.tolist(), strict=True))) == count
    assert seen.min() == 0


def test_every_image_of_a_class_is_drawn_before_one_is_repeated() -> None:
    for epoch in range(1, 6):
        chosen, _ = draws(epoch)
        for label in (0, 1, 2, 5):
            own = np.flatnonzero(label == LABELS)
            times = [Counter(chosen.tolist())[image] for image in own.tolist()]
            assert max(times) - min(times) <= 1
            assert min(times) >= len(chosen) // 4 // len(own)


def test_epochs_go_on_where_the_last_one_ended() -> None:
    whole: Counter[int] = Counter()
    for epoch in range(1, 9):
        whole.update(draws(epoch)[0].tolist())
        totals = []
        for label in (0, 1, 2, 5):
            times = [whole[image] for image in np.flatnonzero(label == LABELS).tolist()]
            assert max(times) - min(times) <= 1
            totals.append(sum(times))
        assert max(totals) - min(totals) <= 1


def test_draws_depend_on_seed_and_epoch_alone() -> None:
    assert all(map(np.array_equal, draws(3), draws(3)))
    assert not np.array_equal(draws(3)[0], draws(4)[0])
    assert not np.array_equal(draws(3)[0], draws(3, seed=5)[0])
    classes = LABELS[draws(3)[0]]
    assert (np.diff(classes) != 0).sum() > 25  # the classes are mixed, not one after the other


def test_one_class_is_a_plain_shuffle() -> None:
    chosen, seen = balanced_draws(np.full(9, 2), 9, seed=0, epoch=2)
    assert sorted(chosen.tolist()) == list(range(9))
    assert not seen.any()
