"""Rows of text in straight columns, for the verbs that print tables."""

from __future__ import annotations

from collections.abc import Sequence


def columns(rows: Sequence[Sequence[str]], align: str) -> list[str]:
    """One line a row, two spaces between columns.

    Args:
        rows: of as many cells as `align` has letters.
        align: "<" or ">" for each column.
    """
    widths = [max(len(row[at]) for row in rows) for at in range(len(align))]
    return [
        "  ".join(
            f"{cell:{side}{width}}" for cell, side, width in zip(row, align, widths, strict=True)
        ).rstrip()
        for row in rows
    ]
