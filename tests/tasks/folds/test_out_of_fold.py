"""Out-of-fold predictions, of one class an image and of several labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from forebear.tasks.folds.out_of_fold import LEFT_OUT, LabelsOutOfFold
from forebear.tasks.label_metrics import average_precision, choose_thresholds
from tests.tasks.folds.making import label_predictions, predictions


def test_measures_of_all_folds_count_each_image_once() -> None:
    found = predictions()
    assert found.measures()["top1"] == 5 / 6
    assert found.measures()["balanced"] == pytest.approx((1 + 2 / 3) / 2)
    assert found.measures(1) == {"top1": 1.0, "balanced": 1.0, "macro_f1": 1.0}
    assert found.confusion.tolist() == [[3, 0], [1, 2]]
    assert found.interval().low < 5 / 6 < found.interval().high
    assert found.probabilities[0].tolist() == pytest.approx([0.75, 0.25])


def test_an_image_that_was_left_out_has_no_prediction() -> None:
    found = predictions(left_out=True)
    assert found.guesses.tolist() == [0, LEFT_OUT, 1, 1, 0, 0]
    assert (found.images, found.measures()["top1"]) == (5, 4 / 5)
    assert found.row(1) == ["cat", 2, "", "", "", ""]
    assert found.row(2) == ["<dog>", 1, "<dog>", "0.75", "0.25", "0.75"]
    several = label_predictions(left_out=True)
    assert (several.images, several.given[1].tolist()) == (5, [False, False])
    assert several.row(1) == ["cat;<dog>", 2, "", 1, 1, "", "", "", ""]


def test_a_row_of_labels_has_names_and_a_probability_and_a_prediction_a_label() -> None:
    found = label_predictions()
    row = dict(zip(found.header(), found.row(4), strict=True))
    assert row == {
        "labels": "cat;<dog>", "fold": 1, "predicted": "<dog>",
        "label_cat": 1, "label_<dog>": 1,
        "probability_cat": "0.119203", "probability_<dog>": "0.880797",
        "predicted_cat": 0, "predicted_<dog>": 1,
    }  # fmt: skip


def test_measures_of_labels() -> None:
    found = label_predictions()
    assert found.measures() == {
        "mAP": pytest.approx((average(found, 0) + average(found, 1)) / 2),
        "macro_f1": pytest.approx((6 / 7 + 6 / 7) / 2),
        "micro_f1": pytest.approx(12 / 14),
        "exact_match": 4 / 6,
    }
    assert found.measures(1)["exact_match"] == 2 / 3
    cat, dog = found.per_label()
    assert (cat.name, cat.images, cat.predicted, cat.hits) == ("cat", 4, 3, 3)
    assert (cat.precision, cat.recall, cat.thresholds) == (1.0, 0.75, (0.5, 0.5))
    assert (dog.precision, dog.recall) == (0.75, 1.0)
    assert found.interval().low <= found.measures()["mAP"] <= found.interval().high


def average(found: LabelsOutOfFold, label: int) -> float:
    own = slice(label, label + 1)
    return float(average_precision(found.labels[:, own], found.logits[:, own])[0])


def test_thresholds_of_a_fold_are_chosen_on_the_other_folds() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, (90, 2)).astype(np.uint8)
    logits = (labels + random.normal(0, 0.5, labels.shape) - 2).astype(np.float32)  # too low
    folds = np.arange(90) % 3 + 1
    found = LabelsOutOfFold(classes=("a", "b"), labels=labels, folds=folds, logits=logits)
    for fold in (1, 2, 3):
        others = folds != fold
        assert found.thresholds[fold] == choose_thresholds(labels[others], logits[others])
        assert max(found.thresholds[fold].thresholds) < 0.4
    spoilt = replace(found, labels=np.where(folds[:, None] == 1, 1 - labels, labels))
    assert spoilt.thresholds[1] == found.thresholds[1]  # own labels do not matter
    assert found.measures()["macro_f1"] > 0.8
    chosen = [row.thresholds for row in found.per_label()]
    assert chosen[0] == (
        min(found.thresholds[fold].thresholds[0] for fold in (1, 2, 3)),
        max(found.thresholds[fold].thresholds[0] for fold in (1, 2, 3)),
    )
