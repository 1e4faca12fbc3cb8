"""Wilson's intervals and means over classes, held to published figures."""

from __future__ import annotations

import numpy as np
import pytest

from forebear.tasks.metrics import count_classes, wilson


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
