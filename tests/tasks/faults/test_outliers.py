"""Outliers of features made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from forebear.tasks.faults.outliers import LEAST, THRESHOLD, outlier_scores

pytest.importorskip("sklearn")


def test_an_image_far_from_its_class_is_beyond_the_threshold() -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(200, 8)).astype(np.float32)
    labels = np.repeat([0, 1], 100)
    features[labels == 1] += 20
    features[7] += 20  # an image of class 1 with the label 0
    features[150] -= 100
    scores = outlier_scores(features, labels)
    assert set(np.flatnonzero(scores >= THRESHOLD)) == {7, 150}
    assert np.median(scores[:100]) == pytest.approx(0, abs=0.1)


def test_each_class_has_a_spread_of_its_own() -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(200, 8)).astype(np.float32)
    features[140:] *= 50
    alone = outlier_scores(features, np.repeat([0, 1], [140, 60]))
    assert np.abs(alone).max() < THRESHOLD
    assert outlier_scores(features, np.zeros(200, np.int64)).max() > THRESHOLD


def test_a_feature_of_large_values_does_not_hide_the_others() -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(100, 4)).astype(np.float32)
    features[3, 0] = 30
    features[:, 1] *= 1e6
    scores = outlier_scores(features, np.zeros(100, np.int64))
    assert np.flatnonzero(scores >= THRESHOLD).tolist() == [3]


def test_small_classes_are_left_out() -> None:
    features = np.random.default_rng(0).normal(size=(LEAST - 1, 4)).astype(np.float32)
    features[0] = 1e6
    assert not outlier_scores(features, np.zeros(LEAST - 1, np.int64)).any()


@pytest.mark.parametrize("count", [0, 50])
def test_equal_images_have_no_outliers(count: int) -> None:
    features = np.ones((count, 4), np.float32)
    assert outlier_scores(features, np.zeros(count, np.int64)).tolist() == [0] * count
