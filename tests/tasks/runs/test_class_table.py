"""classes.json: written by a run, read by its page, whoever has edited it in between."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forebear.tasks.evaluate import Evaluation
from forebear.tasks.runs.class_table import (
    ClassTable,
    class_table,
    read_class_table,
    write_class_table,
)


def made() -> ClassTable:
    labels = np.array([0, 0, 0, 0, 1, 1, 3])
    evaluation = Evaluation(
        classes=("cat", "dog", "owl", "żaba"),
        labels=labels,
        guesses=np.array([0, 0, 1, 1, 1, 0, 3]),
        in_top5=np.ones(7, bool),
        losses=np.ones(7, np.float32),
        confidences=np.ones(7, np.float32),
    )
    return class_table(evaluation, [40, 20, 5, 10], 2.5)


def test_a_table_comes_back(tmp_path: Path) -> None:
    write_class_table(made(), tmp_path)
    table = read_class_table(tmp_path)
    assert table == made()
    assert table.epoch == 2.5
    assert [(row.name, row.train, row.images) for row in table.classes] == [
        ("cat", 40, 4), ("dog", 20, 2), ("owl", 5, 0), ("żaba", 10, 1),
    ]  # fmt: skip
    assert table.classes[1].recall == 0.5
    assert table.classes[1].precision == pytest.approx(1 / 3)
    assert list(table.intervals) == ["top1", "balanced", "macro_f1"]


def test_the_worst_class_is_first_and_classes_without_images_are_last() -> None:
    assert [row.name for row in made().worst_first] == ["cat", "dog", "żaba", "owl"]


@pytest.mark.parametrize(
    "changed",
    [
        {"epoch": "x"},
        {"epoch": 10**400},
        {"intervals": {"top1": [0, 1]}},
        {"intervals": {"top1": [0], "balanced": [0, 1], "macro_f1": [0, 1]}},
        {"classes": [1]},
        {"classes": [{"name": "cat"}]},
        {"classes": None},
    ],
)
def test_a_damaged_table_is_none(tmp_path: Path, changed: dict[str, Any]) -> None:
    write_class_table(made(), tmp_path)
    data = json.loads((tmp_path / "classes.json").read_text("utf-8"))
    (tmp_path / "classes.json").write_text(json.dumps(data | changed))
    assert read_class_table(tmp_path) is None


@pytest.mark.parametrize("text", ["", "[]", "3", "{", "[" * 10_000])
def test_what_is_no_table_is_none(tmp_path: Path, text: str) -> None:
    assert read_class_table(tmp_path) is None
    (tmp_path / "classes.json").write_text(text)
    assert read_class_table(tmp_path) is None


def test_a_negative_count_is_damage(tmp_path: Path) -> None:
    write_class_table(made(), tmp_path)
    data = json.loads((tmp_path / "classes.json").read_text("utf-8"))
    data["classes"][0]["train"] = -1
    (tmp_path / "classes.json").write_text(json.dumps(data))
    assert read_class_table(tmp_path) is None
