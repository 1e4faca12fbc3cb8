"""Intervals of means over classes, held to plain loops and to known truths."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from forebear.tasks.half_samples import Spread, class_intervals
from forebear.tasks.metrics import count_classes, wilson


def drawn(images: int, classes: int, right: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    random = np.random.default_rng(images)
    labels = random.integers(0, classes, images) * random.integers(0, 2, images)  # many of class 0
    others = random.integers(0, classes, images)
    return labels, np.where(random.random(images) < right, labels, others)


def test_the_draws_are_those_of_images_taken_one_by_one() -> None:
    labels, guesses = drawn(300, 5, 0.6)
    random, found = np.random.default_rng(1), []
    for _ in range(4000):
        own = random.random(300) < 0.5
        counts = count_classes(labels[own], guesses[own], 5)
        found.append((float(counts.balanced()), float(counts.macro_f1())))
    whole = count_classes(labels, guesses, 5)
    means = np.array([whole.balanced(), whole.macro_f1()])
    centre = 2 * means - np.mean(found, axis=0)
    half = 1.96 * np.std(found, axis=0) / (centre * (1 - centre))
    odds = np.log(centre / (1 - centre))[:, None] + np.stack([-half, half], 1)
    got = class_intervals(labels, guesses, 5, draws=4000)
    np.testing.assert_allclose(got, 1 / (1 + np.exp(-odds)), atol=0.004)


@pytest.mark.long
@pytest.mark.parametrize(
    ("sizes", "recall"),
    [([200, 100, 60], 0.7), ([40, 40, 40, 8], 0.97), ([6] * 20, 0.7), ([500, 20], 0.85)],
)
def test_intervals_contain_the_true_value_about_19_times_of_20(
    sizes: list[int], recall: float
) -> None:
    classes, count = len(sizes), sum(sizes)
    share = np.array(sizes) / count
    cells = np.full((classes, classes), (1 - recall) / (classes - 1))
    np.fill_diagonal(cells, recall)
    hits = share * recall
    f1 = (2 * hits / (share + share @ cells)).mean()
    random, inside = np.random.default_rng(2), np.zeros(2)
    for _ in range(1000):
        labels = random.choice(classes, count, p=share)
        wrong = (labels + random.integers(1, classes, count)) % classes
        guesses = np.where(random.random(count) < recall, labels, wrong)
        for at, (one, true) in enumerate(
            zip(class_intervals(labels, guesses, classes, draws=300), (recall, f1), strict=True)
        ):
            inside[at] += one.low <= true <= one.high
    assert ((inside >= 900) & (inside <= 990)).all(), inside


def test_the_same_images_have_the_same_interval_and_draws_in_parts_differ_little(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    labels, guesses = drawn(200, 8, 0.5)
    whole = class_intervals(labels, guesses, 8)
    assert class_intervals(labels, guesses, 8) == whole
    assert class_intervals(labels, guesses, 8, seed=1) != whole
    monkeypatch.setattr("forebear.tasks.half_samples._CELLS", 500)
    np.testing.assert_allclose(class_intervals(labels, guesses, 8), whole, rtol=1e-12)


def test_if_all_images_are_right_the_intervals_of_the_classes_are_combined() -> None:
    labels = np.repeat([0, 1, 3], [40, 8, 8])
    balanced, f1 = class_intervals(labels, labels, 4)
    below = 1 - wilson(np.array([40, 8, 8]), np.array([40, 8, 8]))[:, 0]
    assert balanced == pytest.approx((1 - np.sqrt((below**2).sum()) / 3, 1))
    assert f1 == balanced
    one, none = np.array([1]), np.array([], np.int64)
    assert class_intervals(one, one, 3)[0] == pytest.approx(wilson(1, 1).tolist())
    assert class_intervals(one, np.array([2]), 3)[0] == pytest.approx(wilson(0, 1).tolist())
    assert class_intervals(none, none, 3) == ((0, 1), (0, 1))


def test_a_class_of_few_images_makes_the_interval_wider() -> None:
    labels = np.repeat([0, 1, 2], [50, 50, 2])
    guesses = labels.copy()
    guesses[[3, 60]] = 2
    low, high = class_intervals(labels, guesses, 3)[0]
    assert high - low > (wilson(2, 2)[1] - wilson(2, 2)[0]) / 3
    assert low < 0.9


def test_the_measure_is_always_within_its_interval() -> None:
    spread = Spread(np.array([0.5]), np.array([100]))
    spread.add(np.array([[0.9], [0.901]] * 10), np.full((20, 1), 50))  # the draws say: far too high
    low, high = spread.interval()
    assert low < 0.26
    assert high == 0.5


def test_a_class_that_draws_lack_counts_in_those_that_have_it() -> None:
    spread = Spread(np.array([0.5, 0.5]), np.array([1000, 1]))
    random = np.random.default_rng(0)
    there = random.random(20_000) < 0.5
    values = np.stack([np.full(20_000, 0.5), np.where(random.random(20_000) < 0.5, 0.6, 0.8)], 1)
    spread.add(values, np.stack([np.full(20_000, 500), there], 1))
    biases = np.concatenate(spread._biases)
    assert biases.mean() == pytest.approx(0.1, abs=0.003)  # 0.2 of the class, a half of the mean
