"""The page of a cross-validation, which needs no other file but links to the runs.

This module chooses the contents; page.html.j2 has the markup.
"""

from __future__ import annotations

from pathlib import Path

from forebear.files import write_text
from forebear.tasks.folds.results import TITLES, CrossValidation, most_confused
from forebear.tasks.html_template import template
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
    summaries, classes = found.summaries, found.predictions.classes
    pooled, interval = found.pooled, found.interval
    rows = [
        (one.number, f"{one.folder.name}/index.html", f"{one.images:,}",
         [f"{one.measures[name.name]:.2%}" for name in summaries])
        for one in found.folds
    ]  # fmt: skip
    matrix = found.predictions.confusion.tolist() if len(classes) <= _MATRIX else []
    return template("forebear.tasks.folds", "page.html.j2", elided).render(
        data=found.data,
        by=found.by,
        count=len(found.folds),
        tiles=[(f"{one.mean:.2%}", f"mean {TITLES[one.name]}, ± {one.deviation:.2%}")
               for one in summaries],
        titles=[TITLES[one.name] for one in summaries],
        rows=rows,
        means=[f"{one.mean:.2%}" for one in summaries],
        deviations=[f"{one.deviation:.2%}" for one in summaries],
        images=f"{int(found.predictions.counts.images.sum()):,}",
        left_out=found.left_out,
        pooled=[(TITLES[name], f"{value:.2%}") for name, value in pooled.items()],
        interval=f"{100 * interval.low:.1f} to {100 * interval.high:.1f}%",
        table=table,
        classes=classes,
        matrix=[
            (name, [(cell, _shade(cell, sum(cells))) for cell in cells])
            for name, cells in zip(classes, matrix, strict=True)
        ] if matrix else [],
        confused=most_confused(found.predictions, _PAIRS),
    )  # fmt: skip


def _shade(images: int, of: int) -> int:
    """Returns a share in whole percent, for the colour of a cell."""
    return round(100 * images / of) if of else 0
