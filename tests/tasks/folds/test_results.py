from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from forebear.tasks.folds.results import fold_result, most_confused
from tests.tasks.folds.making import cross_validation, label_predictions, predictions


def test_the_deviation_is_that_of_a_sample() -> None:
    top1, balanced, macro_f1 = cross_validation().summaries
    assert (top1.name, top1.values) == ("top1", (1.0, 2 / 3))
    assert top1.mean == pytest.approx(5 / 6)
    assert top1.deviation == pytest.approx(1 / 18**0.5)
    assert balanced.mean == 0.875
    assert macro_f1.mean == pytest.approx(5 / 6)


def test_a_test_accuracy_counts_if_each_fold_has_one() -> None:
    found = cross_validation()
    tested = [replace(one, measures={**one.measures, "test_top1": 0.9}) for one in found.folds]
    assert len(replace(found, folds=(tested[0], found.folds[1])).summaries) == 3
    *_, last = replace(found, folds=tuple(tested)).summaries
    assert (last.name, last.mean, last.deviation) == ("test_top1", 0.9, 0.0)


def test_a_fold_has_its_own_images_and_the_test_results_of_its_network() -> None:
    found = fold_result(2, Path("x"), predictions(left_out=True), {"test_accuracy": 0.75})
    assert found.images == 2
    assert found.measures == {"top1": 0.5, "balanced": 0.5, "macro_f1": 2 / 3, "test_top1": 0.75}
    several = fold_result(1, Path("x"), label_predictions(), {"test_mAP": 0.5, "test_images": 3})
    assert several.images == 3
    assert list(several.measures) == ["mAP", "macro_f1", "micro_f1", "exact_match", "test_mAP"]


def test_json_has_the_values_of_each_fold() -> None:
    found = cross_validation().as_json()
    assert found["results"][1] == {
        "fold": 2, "run": "fold-2", "images": 3, "top1": pytest.approx(2 / 3), "balanced": 0.75,
        "macro_f1": pytest.approx(2 / 3),
    }  # fmt: skip
    assert found["out_of_fold"]["top1"] == 5 / 6
    assert found["standard_deviation"]["top1"] == pytest.approx(0.2357022)
    left = cross_validation(found=predictions(left_out=True)).as_json()
    assert (left["images"], left["left_out"], left["out_of_fold"]["top1"]) == (5, 1, 4 / 5)
    assert "labels" not in left


def test_json_of_multi_label_images_has_the_labels_and_no_nan() -> None:
    several = label_predictions()
    labels = several.labels.copy()
    labels[:, 1] = 0
    found = cross_validation(found=replace(several, labels=labels)).as_json()
    assert [row["name"] for row in found["labels"]] == ["cat", "<dog>"]
    assert found["labels"][0]["images"] == 4
    assert found["labels"][1]["average_precision"] is None
    assert "NaN" not in json.dumps(found)
    assert list(found["mean"]) == ["mAP", "macro_f1", "micro_f1", "exact_match"]
    assert found["mean"]["exact_match"] == np.mean([one["exact_match"] for one in found["results"]])


def test_mistakes_are_listed_by_their_number() -> None:
    assert most_confused(predictions(), 5) == [("<dog>", "cat", 1)]
    assert most_confused(predictions(), 0) == []
