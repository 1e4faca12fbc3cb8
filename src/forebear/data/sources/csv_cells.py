"""The labels of a row of a CSV file: one in a cell, several in a cell, or one 0/1 column a label.

Which of these a file has is decided by rules that docs/multi-label.md states, or by the options.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from forebear.data.labels import listed
from forebear.data.sources.csv_table import CsvTable
from forebear.data.sources.read_options import SEPARATORS, ReadOptions
from forebear.errors import DataError
from forebear.text import printable, truncated

_BITS = {"0": False, "1": True, "0.0": False, "1.0": True}  # pandas writes floats


@dataclass(frozen=True, slots=True)
class LabelCells:
    """Where the labels of a row are, and how they are read."""

    columns: tuple[int, ...]  # one column of labels, or a column of 0 and 1 for each label
    multi: bool = False  # whether an image can have several labels
    separator: str = ""  # of the labels in a cell; "" if no cell has several
    notes: tuple[str, ...] = ()  # how the file was read

    @property
    def binary(self) -> bool:
        """Whether there is one 0/1 column a label."""
        return self.multi and len(self.columns) > 1

    def read(self, table: CsvTable, cells: Sequence[str], line: int) -> tuple[str, ...]:
        """Returns the labels of a row, in the order of the file.

        Raises:
            DataError: A cell is not 0 or 1, or a label is empty or repeated.
        """
        if self.binary:
            return tuple(self.names(table)[at] for at in self._ones(table, cells, line))
        cell = cells[self.columns[0]].strip()
        if not self.multi:
            return (cell,)
        found = self._parts(cell)
        fault = ""
        if "" in found:
            fault = "an empty label"
        elif len(set(found)) < len(found):
            again = next(one for at, one in enumerate(found) if one in found[:at])
            fault = f"the label {truncated(again)} more than once"
        if fault:
            raise DataError(
                f"{table.shown}: line {line} has {fault} in the column "
                f"{printable(table.header[self.columns[0]])}: {truncated(cell)}. Expected "
                "different labels with one separator between them. Correct the row."
            )
        return found

    def names(self, table: CsvTable) -> list[str]:
        """Returns the names of the columns of labels."""
        return [table.header[at].strip() for at in self.columns]

    def _parts(self, cell: str) -> tuple[str, ...]:
        if not cell:
            return ()
        if self.separator == " ":
            return tuple(cell.split())
        parts = cell.split(self.separator) if self.separator else [cell]
        return tuple(part.strip() for part in parts)

    def _ones(self, table: CsvTable, cells: Sequence[str], line: int) -> list[int]:
        found = []
        for place, at in enumerate(self.columns):
            bit = _BITS.get(cells[at].strip())
            if bit is None:
                raise DataError(
                    f"{table.shown}: line {line} has {truncated(cells[at])!r} in the column "
                    f"{printable(table.header[at])}. Expected 0 or 1 in a column of one label. "
                    "Correct the row, or name the columns of labels by --label-columns."
                )
            if bit:
                found.append(place)
        return found


def label_cells(
    table: CsvTable, options: ReadOptions, label: int | None, others: Sequence[int]
) -> LabelCells | None:
    """Returns how the labels of a table are read; None if it has no column for them.

    Args:
        table: Of the file.
        options: What the caller says about the labels.
        label: The column of labels, if it is named or has a usual name.
        others: Columns that are neither images, parts, groups nor `label`.

    Raises:
        DataError: A column is unknown, or the separator cannot be decided.
    """
    if options.label_columns is not None:
        return LabelCells(columns_of(table, options.label_columns), multi=True)
    binary = [at for at in others if _is_binary(table, at)]
    if label is not None:
        if options.several:
            return _in_cells(table, options, label)
        return LabelCells((label,), notes=_doubts(table, label, binary))
    if options.multi_label is not False and len(others) > 1 and binary == list(others):
        names = listed([table.header[at].strip() for at in others])
        note = (
            f"{table.shown}: multi-label, one label a column: {names}, as all columns but those "
            "of images, parts and groups hold only 0 and 1 (--label-column reads one class an "
            "image)"
        )
        return LabelCells(tuple(others), multi=True, notes=(note,))
    if len(others) != 1:
        return None
    return _in_cells(table, options, others[0]) if options.several else LabelCells((others[0],))


def columns_of(table: CsvTable, text: str) -> tuple[int, ...]:
    """Returns the columns that --label-columns names.

    Raises:
        DataError: A column is unknown or named twice, or there is only one.
    """
    names = [name.strip() for name in text.split(",")]
    found = tuple(table.named(name, "--label-columns") for name in names)
    if len(set(found)) < len(found) or len(found) < 2:
        raise DataError(
            f"{table.shown}: --label-columns {printable(text)}: {len(set(found))} different "
            f"column{'' if len(set(found)) == 1 else 's'}. Expected two or more, each once. Pass "
            "all columns of labels."
        )
    return found


def _in_cells(table: CsvTable, options: ReadOptions, label: int) -> LabelCells:
    name = printable(table.header[label])
    if options.separator is not None:
        return LabelCells((label,), multi=True, separator=options.separator)
    cells = [row[label].strip() for row in table.rows]
    found = [mark for mark in SEPARATORS if any(mark in cell for cell in cells)]
    strong = [mark for mark in found if mark != " "]
    if len(strong) > 1 or (not strong and found):
        said = " and ".join(_shown(mark) for mark in strong or found)
        raise DataError(
            f"{table.shown}: the cells of the column {name} have {said}, so the separator of the "
            f"labels is not clear. Expected one of {', '.join(map(_shown, SEPARATORS))}. Pass "
            "--label-separator."
        )
    separator = strong[0] if strong else ""
    how = f"are separated by {_shown(separator)}" if separator else "have one label each"
    note = f"{table.shown}: multi-label; the cells of the column {name} {how}"
    return LabelCells((label,), multi=True, separator=separator, notes=(note,))


def _doubts(table: CsvTable, label: int, binary: Sequence[int]) -> tuple[str, ...]:
    """Returns notes about a table that is read with one class an image but may have several."""
    name, notes = printable(table.header[label]), []
    for mark in (";", "|"):
        count = sum(mark in row[label] for row in table.rows)
        if count:
            notes.append(
                f"{table.shown}: {count:,} cells of the column {name} contain {_shown(mark)}, and "
                "each cell is read as the name of one class (--multi-label reads several labels)"
            )
    if len(binary) > 1 and _is_binary(table, label):
        names = listed([table.header[at].strip() for at in binary])
        notes.append(
            f"{table.shown}: the column {name} has the labels; other columns that hold only 0 and "
            f"1 are not used: {names} (--label-columns reads one label a column)"
        )
    return tuple(notes)


def _is_binary(table: CsvTable, column: int) -> bool:
    return all(row[column].strip() in _BITS for row in table.rows)


def _shown(mark: str) -> str:
    return "a space" if mark == " " else repr(mark)
