"""Confidence intervals and means over classes, held to published figures and to plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from forebear.tasks.metrics import bootstrap, count_classes, wilson


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [  # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_intervals(
    hits: int, count: int, low: float, high: float
) -> None:
    assert wilson(hits, count).tolist() == pytest.approx([low, high], abs=5e-5)
    mirrored = wilson(count - hits, count).tolist()
    assert mirrored == pytest.approx([1 - high, 1 - low], abs=5e-5)


def test_wilson_takes_many_fractions_and_stays_within_0_and_1() -> None:
    got = wilson(np.array([0, 5, 1, 0]), np.array([5, 5, 1, 0]))
    assert got.shape == (4, 2)
    assert got.min() == 0
    assert got.max() == 1
    assert (got[:, 0] < got[:, 1]).all()
    assert got[3].tolist() == [0, 1]  # nothing is known of what was not counted
    np.testing.assert_array_equal(got[1], wilson(5, 5))


def test_means_are_of_the_classes_that_have_images() -> None:
    counts = count_classes(np.array([0, 0, 0, 1]), np.array([0, 0, 3, 1]), 4)
    assert counts.images.tolist() == [3, 1, 0, 0]
    assert counts.predicted.tolist() == [2, 1, 0, 1]
    assert float(counts.balanced()) == pytest.approx((2 / 3 + 1) / 2)
    assert float(counts.macro_f1()) == pytest.approx((4 / 5 + 1) / 2)


def drawn(images: int, classes: int, right: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    random = np.random.default_rng(images)
    labels = random.integers(0, classes, images) * random.integers(0, 2, images)  # many of class 0
    others = random.integers(0, classes, images)
    return labels, np.where(random.random(images) < right, labels, others)


def test_the_bootstrap_is_that_of_images_drawn_one_by_one() -> None:
    labels, guesses = drawn(300, 5, 0.6)
    random = np.random.default_rng(1)
    found = []
    for _ in range(4000):
        rows = random.integers(0, 300, 300)
        counts = count_classes(labels[rows], guesses[rows], 5)
        found.append((float(counts.balanced()), float(counts.macro_f1())))
    wanted = np.quantile(found, [0.025, 0.975], axis=0).T
    got = bootstrap(labels, guesses, 5, draws=4000)
    np.testing.assert_allclose(got, wanted, atol=0.006)  # 3 standard errors of a quantile


def test_the_bootstrap_covers_the_true_value_about_19_times_of_20() -> None:
    recalls = np.array([0.9, 0.5, 0.7])
    random = np.random.default_rng(2)
    labels = np.repeat([0, 1, 2], [200, 100, 60])
    covered = 0
    for trial in range(100):
        wrong = random.random(len(labels)) >= recalls[labels]
        guesses = np.where(wrong, (labels + 1) % 3, labels)
        low, high = bootstrap(labels, guesses, 3, draws=300, seed=trial)[0]
        covered += low <= recalls.mean() <= high
    assert 88 <= covered <= 99


def test_the_same_images_have_the_same_interval_and_draws_in_parts_differ_in_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    labels, guesses = drawn(200, 8, 0.5)
    whole = bootstrap(labels, guesses, 8)
    assert bootstrap(labels, guesses, 8) == whole
    assert bootstrap(labels, guesses, 8, seed=1) != whole
    monkeypatch.setattr("forebear.tasks.metrics._CELLS", 500)
    assert bootstrap(labels, guesses, 8) == whole


def test_degenerate_sets_have_an_interval() -> None:
    none = np.array([], np.int64)
    assert bootstrap(none, none, 3) == ((0, 1), (0, 1))
    one = np.array([1])
    assert bootstrap(one, one, 3) == ((1, 1), (1, 1))
    assert bootstrap(one, np.array([2]), 3) == ((0, 0), (0, 0))
