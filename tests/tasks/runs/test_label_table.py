from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forebear.network.multi_label import MultiLabel
from forebear.tasks.label_evaluation import LabelEvaluation
from forebear.tasks.runs.class_table import read_class_table
from forebear.tasks.runs.label_table import (
    LabelTable,
    label_table,
    read_label_table,
    write_label_table,
)
from forebear.tasks.runs.layout import CLASSES


def made() -> LabelTable:
    """The label a is right in two of two images, b in one of two, and c has no image."""
    labels = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 0]], np.uint8)
    logits = np.array([[2, 1, -1], [1, 2, -1], [-1, -1, -1]], np.float32)
    several = MultiLabel(thresholds=(0.5, 0.4, 0.5))
    evaluation = LabelEvaluation(
        classes=("a", "b", "c"), labels=labels, logits=logits,
        losses=np.ones(3, np.float32), several=several,
    )  # fmt: skip
    return label_table(evaluation, [20, 10, 1], epoch=2.0)


def test_a_table_is_what_was_measured_and_is_read_back(tmp_path: Path) -> None:
    table = made()
    assert table.images == 3
    first, second, third = table.labels
    assert (first.average_precision, first.f1, first.train, first.threshold) == (1, 1, 20, 0.5)
    assert second.average_precision == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert (second.precision, second.recall, second.predicted) == (0.5, 0.5, 2)
    assert third.average_precision is None
    assert table.measures["mAP"] == pytest.approx((1 + 7 / 12) / 2)
    assert table.measures["exact_match"] == pytest.approx(1 / 3)
    write_label_table(table, tmp_path)
    assert read_label_table(tmp_path) == table
    assert read_class_table(tmp_path) is None


def test_the_worst_labels_come_first_and_those_without_images_last() -> None:
    assert [row.name for row in made().worst_first] == ["b", "a", "c"]


@pytest.mark.parametrize(
    "changes",
    [
        {"task": "other"},
        {"measures": {}},
        {"intervals": {"mAP": [0, 1]}},
        {"labels": [{"name": "a"}]},
        {"epoch": "two"},
        {"images": -1},
    ],
)
def test_a_damaged_table_is_none(changes: dict[str, Any], tmp_path: Path) -> None:
    write_label_table(made(), tmp_path)
    text = json.loads((tmp_path / CLASSES).read_text())
    (tmp_path / CLASSES).write_text(json.dumps(text | changes))
    assert read_label_table(tmp_path) is None


def test_a_folder_without_a_table_has_none(tmp_path: Path) -> None:
    assert read_label_table(tmp_path) is None
