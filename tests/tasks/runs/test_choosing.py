"""The metric that chooses the best evaluation of a run."""

from __future__ import annotations

import math
from typing import get_args

import pytest

from forebear.tasks.runs.choosing import MEASURES, Metric, measure_of, metric_for


def test_every_metric_has_a_measure() -> None:
    assert list(MEASURES) == list(get_args(Metric))


@pytest.mark.parametrize(
    ("metric", "better", "worse"),
    [
        ("mAP", {"val_map": 0.6}, {"val_map": 0.5}),
        ("top1", {"val_accuracy": 0.6}, {"val_accuracy": 0.5}),
        ("balanced", {"val_balanced": 0.6}, {"val_balanced": 0.5}),
        ("macro-f1", {"val_macro_f1": 0.6}, {"val_macro_f1": 0.5}),
        ("loss", {"val_loss": 0.5}, {"val_loss": 0.6}),
    ],
)
def test_a_better_value_has_a_larger_score(
    metric: Metric, better: dict[str, float], worse: dict[str, float]
) -> None:
    assert MEASURES[metric].score(better) > MEASURES[metric].score(worse) > -math.inf


@pytest.mark.parametrize("value", [None, math.nan, "0.5", True])
def test_an_unknown_value_is_worse_than_any(value: object) -> None:
    assert MEASURES["balanced"].score({"val_balanced": value}) == -math.inf
    assert MEASURES["balanced"].score({}) == -math.inf


def test_the_loss_of_no_images_is_unknown() -> None:
    assert MEASURES["loss"].score({"val_loss": 0.0, "val_images": 0}) == -math.inf
    assert MEASURES["loss"].score({"val_loss": 0.0, "val_images": 1}) == 0
    assert MEASURES["loss"].score({"val_loss": 0.0}) == 0  # older runs do not count images


def test_values_are_written_with_their_unit() -> None:
    assert MEASURES["macro-f1"].text(0.4567) == "45.67%"
    assert MEASURES["loss"].text(0.4567) == "0.4567"


def test_a_run_of_an_older_version_has_top_1() -> None:
    assert measure_of({"metric": "loss"}) is MEASURES["loss"]
    for request in ({}, {"metric": "new"}, {"metric": ["loss"]}):
        assert measure_of(request) is MEASURES["top1"]


@pytest.mark.parametrize(
    ("metric", "multi_label", "found"),
    [("auto", False, "top1"), ("auto", True, "mAP"), ("macro-f1", True, "macro-f1")],
)
def test_the_metric_follows_the_images(metric: Metric, multi_label: bool, found: Metric) -> None:
    assert metric_for(metric, multi_label=multi_label) == found


@pytest.mark.parametrize(
    ("metric", "multi_label", "said"),
    [
        ("top1", True, "so an image has no single class. Expected one of mAP, macro-f1, loss."),
        ("mAP", False, "are not multi-label. Expected one of top1, balanced, macro-f1, loss."),
    ],
)
def test_a_metric_that_does_not_fit_is_refused(
    metric: Metric, multi_label: bool, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        metric_for(metric, multi_label=multi_label)
