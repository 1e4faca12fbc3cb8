"""What the page of a multi-label run shows in place of accuracies and classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from safetensors import SafetensorError, safe_open

from forebear.tasks.runs.formatting import DASH, class_title, percent, whole
from forebear.tasks.runs.label_table import LabelLine, LabelTable
from forebear.tasks.runs.layout import WEIGHTS
from forebear.tasks.runs.read import Run
from forebear.untrusted import parse_json

_TILES = (
    ("mAP", "val_map", "mAP of the validation images"),
    ("micro_f1", "val_micro_f1", "micro-F1, at 0.5"),
    ("macro_f1", "val_macro_f1", "macro-F1, at 0.5"),
    ("exact_match", "val_accuracy", "of the validation images have exactly the right labels"),
)


@dataclass(frozen=True, slots=True)
class LabelRow:
    """One label in the table."""

    name: str
    share: float  # percent of the training images of the most frequent label, for a bar
    train: str
    images: str
    average_precision: str
    f1: str
    precision: str
    recall: str
    threshold: str


def label_tiles(run: Run, table: LabelTable | None) -> list[tuple[str, str]]:
    """Returns the main numbers of a multi-label run with epochs, each with its caption."""
    tiles = []
    current = table is not None and table.epoch == run.last("epoch")
    for name, column, title in _TILES:
        interval = ""
        if table is not None and current:
            low, high = (100 * end for end in table.intervals[name])
            interval = f" (95% interval: {low:.1f} to {high:.1f}%)"
        tiles.append((percent(run.last(column)), title + interval))
    if run.tested is not None:
        value, images = run.tested
        tiles.insert(0, (percent(value), f"mAP of {images:,} test images, evaluated once"))
    return tiles


def stored_thresholds(run: Run) -> tuple[float, ...]:
    """Returns the thresholds in the weights of a finished run; empty if there are none."""
    try:
        with safe_open(run.path / WEIGHTS, "np") as file:
            several = parse_json((file.metadata() or {})["multi_label"])
        return tuple(float(value) for value in several["thresholds"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return ()


def label_rows(table: LabelTable | None, thresholds: Sequence[float] = ()) -> list[LabelRow]:
    """Returns the rows of the table of labels, the worst first.

    Args:
        table: Of the last evaluation.
        thresholds: Of the finished run's weights, in the order of the labels; empty before that.
    """
    if table is None:
        return []
    most = max((row.train for row in table.labels), default=0)
    known = dict(zip((row.name for row in table.labels), thresholds, strict=False))
    return [_row(row, most, known.get(row.name)) for row in table.worst_first]


def _row(row: LabelLine, most: int, threshold: float | None) -> LabelRow:
    there, precision = row.average_precision is not None, row.average_precision
    return LabelRow(
        name=class_title(row.name),
        share=round(100 * row.train / most, 1) if most else 0.0,
        train=whole(row.train),
        images=whole(row.images),
        average_precision=DASH if precision is None else percent(precision),
        f1=percent(row.f1) if there else DASH,
        precision=percent(row.precision),
        recall=percent(row.recall) if there else DASH,
        threshold=DASH if threshold is None else f"{threshold:.3f}",
    )
