from __future__ import annotations

from dataclasses import replace

import pytest

from forebear.tasks.folds.results import most_confused
from tests.tasks.folds.making import cross_validation, predictions


def test_the_deviation_is_that_of_a_sample() -> None:
    top1, balanced, macro_f1 = cross_validation().summaries
    assert (top1.name, top1.values, top1.mean) == ("top1", (1.0, 0.5), 0.75)
    assert top1.deviation == pytest.approx(0.125**0.5)
    assert balanced.mean == 0.875
    assert macro_f1.mean == 0.8125


def test_a_test_accuracy_counts_if_each_fold_has_one() -> None:
    found = cross_validation()
    tested = [replace(one, measures={**one.measures, "test_top1": 0.9}) for one in found.folds]
    assert len(replace(found, folds=(tested[0], found.folds[1])).summaries) == 3
    *_, last = replace(found, folds=tuple(tested)).summaries
    assert (last.name, last.mean, last.deviation) == ("test_top1", 0.9, 0.0)


def test_pooled_measures_count_each_image_once() -> None:
    found = cross_validation()
    assert found.pooled["top1"] == 5 / 6
    assert found.pooled["balanced"] == pytest.approx((1 + 2 / 3) / 2)
    assert found.predictions.confusion.tolist() == [[3, 0], [1, 2]]
    assert found.interval.low < 5 / 6 < found.interval.high
    left = cross_validation(left_out=True)
    assert left.pooled["top1"] == 4 / 5
    assert left.as_json()["images"] == 5
    assert left.as_json()["left_out"] == 1


def test_json_has_the_values_of_each_fold() -> None:
    found = cross_validation().as_json()
    assert found["results"][1] == {
        "fold": 2, "run": "fold-2", "images": 3, "top1": 0.5, "balanced": 0.75, "macro_f1": 0.625
    }  # fmt: skip
    assert found["mean"]["top1"] == 0.75
    assert found["standard_deviation"]["top1"] == pytest.approx(0.3535534)


def test_mistakes_are_listed_by_their_number() -> None:
    assert most_confused(predictions(), 5) == [("<dog>", "cat", 1)]
    assert most_confused(predictions(), 0) == []
