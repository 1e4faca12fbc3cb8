"""Temperatures, thresholds and calibration errors of logits whose true values are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from forebear.data.strata import stratified
from forebear.engines.classifier import scores, softmax
from forebear.errors import DataError
from forebear.network.calibration import TEMPERATURES, Score
from forebear.tasks.calibration import (
    adaptive_ece,
    calibrate,
    fit_temperature,
    fit_threshold,
    least_images,
    reliability,
)

Drawn = tuple[NDArray[np.float32], NDArray[np.int64]]


def drawn(count: int, classes: int, temperature: float, seed: int = 0) -> Drawn:
    """Logits, and labels drawn from softmax(logits / temperature)."""
    random = np.random.default_rng(seed)
    logits = (3 * random.standard_normal((count, classes))).astype(np.float32)
    shares = softmax(logits, temperature)
    labels = (shares.cumsum(1) > random.random((count, 1))).argmax(1)
    return logits, labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 8.0])
def test_the_temperature_that_drew_the_labels_is_found(temperature: float) -> None:
    logits, labels = drawn(40_000, 10, temperature)
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.03)


def test_the_temperature_has_the_least_negative_log_likelihood() -> None:
    logits, labels = drawn(500, 7, 1.7)
    found = fit_temperature(logits, labels)

    def loss(temperature: float) -> float:
        z = logits.astype(np.float64) / temperature
        logs = z - np.log(np.exp(z).sum(1, keepdims=True))
        targets = np.full(logs.shape, 1 / 502 / 6)  # smoothed as Platt 1999 does
        targets[np.arange(500), labels] = 1 - 1 / 502
        return float(-(targets * logs).sum())

    least = min(loss(found * factor) for factor in np.geomspace(0.9, 1.1, 41))
    assert loss(found) <= least + 1e-9
    assert loss(found) < min(loss(0.999 * found), loss(1.001 * found))


def test_a_network_without_a_mistake_has_the_temperature_of_its_number_of_images() -> None:
    labels = np.arange(50) % 10
    logits = 8 * np.eye(10, dtype=np.float32)[labels]
    # p = 1 - 1 / 52 solves softmax(8 / T): 8 / T = log(9 p / (1 - p))
    assert fit_temperature(logits, labels) == pytest.approx(8 / math.log(9 * 51), rel=1e-8)
    assert fit_temperature(5 * logits, labels) == pytest.approx(40 / math.log(9 * 51), rel=1e-8)


@pytest.mark.parametrize("factor", [0.0, -1.0, 1e5, 1e-5])
def test_a_fit_without_a_minimum_ends_at_a_bound(factor: float) -> None:
    labels = np.arange(50) % 10
    found = fit_temperature(factor * 8 * np.eye(10, dtype=np.float32)[labels], labels)
    bound = TEMPERATURES[0] if factor == 1e-5 else TEMPERATURES[1]
    assert found == pytest.approx(bound, rel=1e-6)
    assert TEMPERATURES[0] <= found <= TEMPERATURES[1]
    assert fit_temperature(np.zeros((3, 1), np.float32), np.zeros(3, np.int64)) == 1


def test_chunks_and_large_logits_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = drawn(300, 5, 1.5)
    whole = fit_temperature(logits, labels)
    assert fit_temperature(logits + 5_000, labels) == pytest.approx(whole, rel=1e-3)
    monkeypatch.setattr("forebear.tasks.calibration._CHUNK", 35)
    assert fit_temperature(logits, labels) == pytest.approx(whole, rel=1e-9)


def test_the_expected_calibration_error_by_hand() -> None:
    shares = np.array([0.62, 0.64, 0.9, 0.92, 1.0, 0.2])
    correct = np.array([True, False, True, True, True, False])
    bins = reliability(shares, correct, bins=5)
    assert bins.counts.tolist() == [1, 0, 0, 2, 3]  # 0.2 belongs to (0, 0.2]
    assert bins.accuracy.tolist() == pytest.approx([0, 0, 0, 0.5, 1])
    assert bins.confidence.tolist() == pytest.approx([0.2, 0, 0, 0.63, 0.94])
    assert bins.ece == pytest.approx((0.2 + 2 * 0.13 + 3 * 0.06) / 6)
    assert len(reliability(shares, correct).counts) == 15
    assert adaptive_ece(shares, correct, bins=2) == pytest.approx(
        (3 * abs(1 / 3 - (0.2 + 0.62 + 0.64) / 3) + 3 * abs(1 - (0.9 + 0.92 + 1) / 3)) / 6
    )


def test_no_images_have_no_calibration_error() -> None:
    nothing = np.empty(0)
    assert reliability(nothing, nothing.astype(bool)).ece == 0
    assert adaptive_ece(nothing, nothing.astype(bool)) == 0


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.07, 0.29, 0.5])
def test_the_threshold_has_its_share_of_known_images_below_it(rate: float) -> None:
    known = np.random.default_rng(1).permutation(100) / 100
    assert (known < fit_threshold(known, rate)).sum() == round(100 * rate)
    assert (np.ones(100) < fit_threshold(np.ones(100), rate)).sum() == 0


@pytest.mark.parametrize("score", ["probability", "energy"])
def test_each_half_is_measured_with_what_the_other_half_gives(score: Score) -> None:
    logits, labels = drawn(4_000, 10, 2.0)
    fit = calibrate(logits, labels, unknown=0.1, score=score, fingerprint="ab")
    made = fit.calibration
    assert made.temperature == fit_temperature(logits, labels)
    assert (made.images, made.fingerprint, made.unknown_rate) == (4_000, "ab", 0.1)
    below = scores(logits, made.temperature, score) < made.threshold
    assert below.mean() == pytest.approx(0.1, abs=1e-3)
    assert fit.unknown == pytest.approx(0.1, abs=0.03)
    assert made.ece_before == fit.before.ece > 0.15
    assert made.ece_after == fit.after.ece < 0.03
    assert fit.adaptive_after < 0.03 < fit.adaptive_before
    assert [after < before for before, after in fit.halves] == [True, True]
    first = np.zeros(4_000, bool)
    first[stratified(labels, seed=0)[::2]] = True
    for own, (_, after) in zip((first, ~first), fit.halves, strict=True):
        temperature = fit_temperature(logits[~own], labels[~own])
        shares = softmax(logits[own], temperature).max(1)
        bins = reliability(shares, logits[own].argmax(1) == labels[own])
        assert after == pytest.approx(bins.ece, rel=1e-4)


def test_two_fits_agree_to_the_last_bit() -> None:
    logits, labels = drawn(301, 4, 2.0)
    assert calibrate(logits, labels).calibration == calibrate(logits, labels).calibration


def test_too_few_images_are_refused() -> None:
    assert [least_images(rate) for rate in (0.5, 0.05, 0.01, 0.1)] == [20, 20, 100, 20]
    with pytest.raises(DataError, match=r"^19 images to calibrate with.*Expected 20 images"):
        calibrate(*drawn(19, 3, 1.0))
    with pytest.raises(DataError, match=r"share of 0\.01 may be unknown\. Expected 100 images"):
        calibrate(*drawn(99, 3, 1.0), unknown=0.01)
