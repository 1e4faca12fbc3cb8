"""Formats rows of text as aligned columns."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence


def columns(rows: Sequence[Sequence[str]], align: str) -> list[str]:
    """Returns one line per row, with two spaces between columns.

    Args:
        rows: Rows with one cell per character of `align`.
        align: "<" (left) or ">" (right) for each column.
    """
    widths = [max(len(row[at]) for row in rows) for at in range(len(align))]
    return [
        "  ".join(
            f"{cell:{side}{width}}" for cell, side, width in zip(row, align, widths, strict=True)
        ).rstrip()
        for row in rows
    ]


def wrapped(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Returns left-aligned columns with wrapped cells.

    Lines fit in `width` if possible. Words are never broken.

    Args:
        rows: Rows with equal numbers of cells.
        width: Characters per line.
    """
    table = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in table]
    least = [max(len(word) for cell in column for word in [*cell.split(), ""]) for column in table]
    room = width - 2 * (len(widths) - 1)
    while sum(widths) > room and widths != least:
        widest = max(range(len(widths)), key=lambda at: (widths[at] > least[at], widths[at]))
        widths[widest] -= 1
    lines: list[Sequence[str]] = []
    for row in rows:
        cells = [
            textwrap.wrap(cell, side, break_on_hyphens=False) or [""]
            for cell, side in zip(row, widths, strict=True)
        ]
        height = max(map(len, cells))
        lines += zip(*(cell + [""] * (height - len(cell)) for cell in cells), strict=True)
    return columns(lines, "<" * len(widths))
