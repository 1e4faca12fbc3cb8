from __future__ import annotations

from pathlib import Path

from forebear.tasks.runs.label_section import label_rows, label_tiles, stored_thresholds
from forebear.tasks.runs.read import Run
from tests.tasks.runs.test_label_table import made

LINE = {"epoch": 2, "val_map": 0.75, "val_micro_f1": 0.5, "val_macro_f1": 0.4, "val_accuracy": 0.3}


def run_of(path: Path) -> Run:
    return Run(path, {"data": {"multi_label": True}}, (LINE,), finished=False)


def test_the_tiles_are_map_f1_and_exact_matches_with_intervals(tmp_path: Path) -> None:
    tiles = label_tiles(run_of(tmp_path), made())
    assert [value for value, _ in tiles] == ["75.00%", "50.00%", "40.00%", "30.00%"]
    captions = [caption for _, caption in tiles]
    assert captions[0].startswith("mAP of the validation images (95% interval: ")
    assert captions[3].startswith("of the validation images have exactly the right labels")


def test_an_older_table_gives_no_intervals(tmp_path: Path) -> None:
    run = Run(tmp_path, {}, (LINE | {"epoch": 3},), finished=False)
    assert all("interval" not in caption for _, caption in label_tiles(run, made()))
    assert all("interval" not in caption for _, caption in label_tiles(run, None))


def test_the_rows_have_the_thresholds_of_the_weights() -> None:
    rows = label_rows(made(), (0.25, 0.5, 0.75))
    assert [(row.name, row.threshold) for row in rows] == [
        ("b", "0.500"), ("a", "0.250"), ("c", "0.750"),
    ]  # fmt: skip
    assert (rows[1].share, rows[0].share) == (100.0, 50.0)
    assert rows[2].average_precision == rows[2].f1 == rows[2].recall
    assert label_rows(made())[0].threshold == rows[2].f1  # a dash
    assert label_rows(None) == []


def test_a_run_without_weights_has_no_thresholds(tmp_path: Path) -> None:
    assert stored_thresholds(run_of(tmp_path)) == ()
