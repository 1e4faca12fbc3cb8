"""The page of a cross-validation, which needs no other file but links to the runs.

This module chooses the contents; page.html.j2 has the markup.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from forebear.files import write_text
from forebear.tasks.folds.out_of_fold import AnyOutOfFold, LabelScore, LabelsOutOfFold, OutOfFold
from forebear.tasks.folds.results import TITLES, CrossValidation, most_confused
from forebear.tasks.html_template import template
from forebear.tasks.runs.formatting import DASH, percent
from forebear.text import elided

_MATRIX = 30  # classes: the confusion matrix of more is left out
_PAIRS = 20  # of classes that are confused most


def write_page(path: Path, found: CrossValidation, *, table: str) -> None:
    """Writes the page, atomically.

    Args:
        path: File to create or replace.
        found: The results.
        table: Name of the file with the predictions, in the same folder.

    Raises:
        OSError: The page cannot be written.
    """
    write_text(path, page(found, table=table))


def page(found: CrossValidation, *, table: str) -> str:
    """Returns the page as HTML; the template escapes all text."""
    summaries, predictions = found.summaries, found.predictions
    low, high = (100 * end for end in predictions.interval())
    rows = [
        (one.number, f"{one.folder.name}/index.html", f"{one.images:,}",
         [f"{one.measures[name.name]:.2%}" for name in summaries])
        for one in found.folds
    ]  # fmt: skip
    return template("forebear.tasks.folds", "page.html.j2", elided).render(
        data=found.data,
        by=found.by,
        kind="label" if isinstance(predictions, LabelsOutOfFold) else "class",
        count=len(found.folds),
        tiles=[(f"{one.mean:.2%}", f"mean {TITLES[one.name]}, ±\u00a0{one.deviation:.2%}")
               for one in summaries],
        titles=[TITLES[one.name] for one in summaries],
        rows=rows,
        means=[f"{one.mean:.2%}" for one in summaries],
        deviations=[f"{one.deviation:.2%}" for one in summaries],
        images=f"{predictions.images:,}",
        left_out=found.left_out,
        pooled=[(TITLES[name], f"{value:.2%}") for name, value in predictions.measures().items()],
        interval=f"{low:.1f} to {high:.1f}%",
        table=table,
        **_of(predictions),
    )  # fmt: skip


def _of(found: AnyOutOfFold) -> dict[str, Any]:
    return _of_labels(found) if isinstance(found, LabelsOutOfFold) else _of_classes(found)


def _of_classes(found: OutOfFold) -> dict[str, Any]:
    """Returns the confusion matrix and the classes that are confused most, for the template."""
    classes = found.classes
    matrix = found.confusion.tolist() if len(classes) <= _MATRIX else []
    return {
        "classes": classes,
        "matrix": [
            (name, [(cell, _shade(cell, sum(cells))) for cell in cells])
            for name, cells in zip(classes, matrix, strict=False)
        ],
        "confused": most_confused(found, _PAIRS),
        "labels": [],
        "unlabelled": (0, 0),
    }


def _of_labels(found: LabelsOutOfFold) -> dict[str, Any]:
    """Returns the table of labels, the worst first, for the template."""
    scores = sorted(found.per_label(), key=lambda row: (row.images == 0, row.average_precision))
    none = ~found.labels.any(1) & found.answered
    return {
        "labels": [_label(row) for row in scores],
        "unlabelled": (int(none.sum()), int((none & ~found.given.any(1)).sum())),
        "classes": (),
        "matrix": [],
        "confused": [],
    }


def _label(row: LabelScore) -> tuple[str, list[str]]:
    there, (least, most) = row.images > 0, row.thresholds
    cells = [
        f"{row.images:,}",
        f"{row.images - row.hits:,}",
        f"{row.predicted - row.hits:,}",
        percent(row.average_precision),
        percent(row.f1) if there else DASH,
        percent(row.precision) if row.predicted else DASH,
        percent(row.recall) if there else DASH,
        f"{least:.3f}" if least == most else f"{least:.3f} to {most:.3f}",
    ]
    return row.name, cells


def _shade(images: int, of: int) -> int:
    """Returns a share in whole percent, for the colour of a cell."""
    return round(100 * images / of) if of else 0
