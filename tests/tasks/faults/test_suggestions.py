"""Suggestions as rows and as a table."""

from __future__ import annotations

import csv
import io

from forebear.tasks.faults.suggestions import COLUMNS, Faults, Suggestion

LABEL = Suggestion(
    place=3, path="a,b.png", part="val", label="cat", kind="label", score=0.98768, suggested="dog"
)
NEAR = Suggestion(
    place=4,
    path="c.png",
    part="train",
    label="dog",
    kind="near-duplicate",
    score=0.9,
    other=1,
    other_path='"d".png',
)
FAULTS = Faults(images=9, skipped=1, suggestions=(LABEL, NEAR), across=0, methods=())


def test_the_table_has_a_heading_and_a_row_for_each_suggestion() -> None:
    rows = list(csv.reader(io.StringIO(FAULTS.csv())))
    assert rows == [
        list(COLUMNS),
        ["a,b.png", "val", "cat", "label", "dog", "0.9877", ""],
        ["c.png", "train", "dog", "near-duplicate", "", "0.9", '"d".png'],
    ]


def test_every_kind_is_counted() -> None:
    assert FAULTS.counts == {"label": 1, "near-duplicate": 1, "outlier": 0}
    assert FAULTS.of("near-duplicate") == [NEAR]
    assert FAULTS.of("outlier") == []


def test_a_suggestion_as_an_object_has_the_columns_as_keys() -> None:
    assert LABEL.as_dict() == {
        "path": "a,b.png",
        "part": "val",
        "label": "cat",
        "kind": "label",
        "suggested_label": "dog",
        "score": 0.9877,
        "other_path": "",
    }
