from __future__ import annotations

import numpy as np
import pytest

from forebear.tasks.label_metrics import (
    average_precision,
    choose_thresholds,
    count_labels,
    label_intervals,
    mean_of,
)


def made(seed: int = 0, count: int = 200, labels: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Labels that logits predict well but not perfectly, with ties among the logits."""
    random = np.random.default_rng(seed)
    true = (random.random((count, labels)) < [0.5, 0.3, 0.2, 0.1]).astype(np.uint8)
    logits = np.round(3 * true - 2 + random.normal(0, 1.5, true.shape), 1).astype(np.float32)
    return true, logits


def test_average_precision_of_a_case_worked_by_hand() -> None:
    # By falling score: 1 0 1 0 1, so precision 1/1, 2/3 and 3/5 at the three hits.
    labels = np.array([[1], [0], [1], [0], [1]], np.uint8)
    scores = np.array([[0.9], [0.8], [0.7], [0.6], [0.5]])
    assert average_precision(labels, scores)[0] == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)
    # All scores equal: one step, from recall 0 to 1 at precision 3/5.
    assert average_precision(labels, np.zeros((5, 1)))[0] == pytest.approx(3 / 5)


def test_average_precision_equals_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    for seed in range(5):
        true, logits = made(seed)
        wanted = metrics.average_precision_score(true, logits, average=None)
        np.testing.assert_allclose(average_precision(true, logits), wanted, rtol=1e-12)


def test_a_label_without_a_positive_image_has_no_average_precision() -> None:
    labels = np.array([[1, 0], [0, 0]], np.uint8)
    found = average_precision(labels, np.array([[2.0, 1.0], [1.0, 2.0]]))
    assert found[0] == 1
    assert np.isnan(found[1])
    assert mean_of(found) == 1
    assert mean_of(np.array([np.nan])) == 0
    assert np.isnan(average_precision(np.zeros((0, 2), np.uint8), np.zeros((0, 2)))).all()


def test_f1_equals_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    true, logits = made()
    counts = count_labels(true, logits >= 0)
    for average, ours in (("micro", counts.micro_f1()), ("macro", counts.macro_f1())):
        assert float(ours) == pytest.approx(metrics.f1_score(true, logits >= 0, average=average))
    wanted = metrics.f1_score(true, logits >= 0, average=None)
    np.testing.assert_allclose(counts.f1(), wanted)


def test_the_mean_f1_leaves_out_labels_without_positive_images() -> None:
    true = np.array([[1, 0], [1, 0]], np.uint8)
    counts = count_labels(true, np.array([[True, True], [True, False]]))
    assert float(counts.macro_f1()) == 1
    assert float(counts.micro_f1()) == pytest.approx(2 * 2 / (2 + 3))


def test_intervals_contain_the_measures_and_shrink_with_more_images() -> None:
    true, logits = made(count=400)
    found = label_intervals(true, logits, logits >= 0)
    counts = count_labels(true, logits >= 0)
    mean = mean_of(average_precision(true, logits))
    measures = mean, float(counts.micro_f1()), float(counts.macro_f1())
    for interval, value in zip(found, measures, strict=True):
        assert interval.low < value < interval.high
    assert found == label_intervals(true, logits, logits >= 0)
    few = label_intervals(true[:50], logits[:50], logits[:50] >= 0)
    for small, large in zip(few, found, strict=True):
        assert small.high - small.low > large.high - large.low
    none = label_intervals(true[:0], logits[:0], logits[:0] >= 0)
    assert set(none) == {(0.0, 1.0)}


def scored(random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Six labels that 3 % of the images have, and scores that tell them poorly."""
    true = (random.random((count, 6)) < 0.03).astype(np.uint8)
    common = random.normal(size=(count, 1))  # images differ in all labels at once
    return true, 1.5 * true + 0.5 * common + 0.87 * random.normal(size=true.shape)


@pytest.mark.long
def test_intervals_contain_the_true_measures_about_19_times_of_20(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("forebear.tasks.label_metrics.DRAWS", 200)
    true, scores = scored(np.random.default_rng(0), 1_000_000)
    counts = count_labels(true, scores >= 1.5)
    f1 = float(counts.micro_f1()), float(counts.macro_f1())
    truth = mean_of(average_precision(true, scores)), *f1
    random, inside, percentile = np.random.default_rng(1), np.zeros(3), 0
    for number in range(200):
        labels, own = scored(random, 300)
        found = label_intervals(labels, own, own >= 1.5)
        inside += [one.low <= value <= one.high for one, value in zip(found, truth, strict=True)]
        if number >= 50:
            continue
        rows = random.integers(300, size=(100, 300))
        drawn = [mean_of(average_precision(labels[row], own[row])) for row in rows]
        low, high = np.quantile(drawn, [0.025, 0.975])
        percentile += low <= truth[0] <= high
    assert ((inside >= 180) & (inside <= 198)).all(), inside
    assert percentile < 40  # what the half-samples are for


def test_the_half_samples_are_those_of_a_plain_loop() -> None:
    true, logits = made(count=120)
    random, drawn = np.random.default_rng(1), []
    for _ in range(2000):
        own = random.random(120) < 0.5
        drawn.append(mean_of(average_precision(true[own], logits[own])))
    mean = mean_of(average_precision(true, logits))
    centre = 2 * mean - np.mean(drawn)
    half = 1.96 * np.std(drawn) / (centre * (1 - centre))
    wanted = 1 / (1 + np.exp(-(np.log(centre / (1 - centre)) + np.array([-half, half]))))
    found = label_intervals(true, logits, logits >= 0)[0]
    assert found == pytest.approx(wanted.tolist(), abs=0.01)


def f1_at(true: np.ndarray, logits: np.ndarray, threshold: float) -> float:
    """F1 at a threshold; 0 if all images get the label."""
    given = 1 / (1 + np.exp(-logits.astype(np.float64))) >= threshold
    return (
        0.0 if given.all() else float(2 * (given & (true > 0)).sum() / (given.sum() + true.sum()))
    )


@pytest.mark.parametrize("seed", range(6))
def test_the_threshold_of_a_label_has_the_highest_f1_of_all(seed: int) -> None:
    true, logits = made(seed)
    found = choose_thresholds(true, logits, fingerprint="ab")
    assert (found.images, found.fingerprint) == (200, "ab")
    for label, threshold in enumerate(found.thresholds):
        best = max(f1_at(true[:, label], logits[:, label], at) for at in np.linspace(0, 1, 2001))
        own = f1_at(true[:, label], logits[:, label], threshold)
        assert own >= best - 1e-9, label
    assert any(value < 0.5 for value in found.thresholds)


def test_a_threshold_that_finds_fewer_images_can_be_better() -> None:
    # F1 is 8 / (10 + 4) after four images and 16 / (10 + 20) after twenty.
    labels = np.array([1] * 4 + [0] * 12 + [1] * 4 + [0] * 20 + [1] * 2, np.uint8)[:, None]
    logits = np.linspace(5, -5, 42, dtype=np.float32)[:, None]
    assert (logits >= choose_thresholds(labels, logits).logits()[0]).sum() == 4


def test_of_equally_good_thresholds_the_nearest_to_one_half_is_taken() -> None:
    logits = np.concatenate([np.full(20, 4.0), np.full(20, -1.0)]).astype(np.float32)[:, None]
    labels = (logits > 0).astype(np.uint8)
    assert choose_thresholds(labels, logits).logits()[0] == pytest.approx(1.5)


@pytest.mark.parametrize("positives", [0, 9, 31, 40])
def test_a_label_with_few_positive_or_negative_images_keeps_one_half(positives: int) -> None:
    logits = np.linspace(-5, -1, 40, dtype=np.float32)[::-1][:, None]
    labels = (np.arange(40) < positives).astype(np.uint8)[:, None]
    found = choose_thresholds(labels, logits)
    assert found.thresholds == (0.5,)
    assert found.images == 0


def test_equal_logits_have_no_threshold_between_them() -> None:
    labels = (np.arange(40) < 20).astype(np.uint8)[:, None]
    assert choose_thresholds(labels, np.ones((40, 1), np.float32)).thresholds == (0.5,)
