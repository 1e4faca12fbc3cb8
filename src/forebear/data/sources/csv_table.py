"""A CSV file as rows with the numbers of their lines, and its columns by name."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from forebear.errors import DataError, near_misses
from forebear.limits import TABLE_BYTES
from forebear.text import printable, truncated
from forebear.untrusted import read_bytes

LAYOUT = "a header, a column of image files and a column of labels"
_COLUMNS = 40  # names of columns in a message


@dataclass(frozen=True, slots=True)
class CsvTable:
    """The rows of a file; each has as many cells as the header."""

    shown: str  # path of the file, for messages
    header: list[str]
    rows: list[list[str]]
    lines: list[int]  # number of the line on which each row ends

    @property
    def columns(self) -> str:
        """The names of the columns, for messages."""
        more = ", ..." if len(self.header) > _COLUMNS else ""
        return ", ".join(truncated(name, 60) for name in self.header[:_COLUMNS]) + more

    def known(self, names: Sequence[str], without: Sequence[int | None] = ()) -> int | None:
        """Returns the column with the first of these names, in lower case; None without one.

        Raises:
            DataError: Several columns have this name.
        """
        own = [name.strip().casefold() for name in self.header]
        for name in names:
            found = [at for at, one in enumerate(own) if one == name and at not in without]
            if found:
                return self._only(found)
        return None

    def named(self, name: str, option: str) -> int:
        """Returns the column of a name: as it is written, or else in any case.

        Args:
            name: Of the column.
            option: That gave the name, such as "--label-column".

        Raises:
            DataError: There is no such column, or several. The message lists the columns.
        """
        own = [one.strip() for one in self.header]
        found = [at for at, one in enumerate(own) if one == name.strip()]
        if not found:
            folded = name.strip().casefold()
            found = [at for at, one in enumerate(own) if one.casefold() == folded]
        if not found:
            near = near_misses(name, own)
            raise DataError(
                f"{self.shown}: {option} {printable(name)}: no such column.{near} Expected one of "
                f"{self.columns}. Pass one of these."
            )
        return self._only(found)

    def _only(self, found: list[int]) -> int:
        if len(found) > 1:
            raise DataError(
                f"{self.shown}: {len(found)} columns are called "
                f"{printable(self.header[found[0]].strip())}. Expected different names. "
                "Rename all but one of them."
            )
        return found[0]


def read_table(path: Path) -> CsvTable:
    """Reads a CSV file in UTF-8 that is separated by commas, semicolons, tabs or bars.

    Raises:
        DataError: The file cannot be read, has no rows, or a row is longer or shorter than others.
    """
    shown = printable(path)
    rows, lines = [], []
    try:
        text = read_bytes(path, most=TABLE_BYTES).decode("utf-8-sig")
        first = text.partition("\n")[0]
        reader = csv.reader(io.StringIO(text), delimiter=max(",;\t|", key=first.count))
        for row in reader:
            if any(row):
                rows.append(row)
                lines.append(reader.line_num)
    except FileNotFoundError:
        raise DataError(f"{shown}: no such file. Expected a CSV file. Check the path.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise DataError(
            f"{shown}: cannot be read ({printable(why)}). Expected a CSV file in UTF-8 with "
            f"{LAYOUT}. Save it again."
        ) from error
    if len(rows) < 2:
        raise DataError(f"{shown}: no rows. Expected {LAYOUT}. Save it again.")
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(rows[0]):
            raise DataError(
                f"{shown}: line {line} has {len(row)} columns, the header {len(rows[0])}. "
                f"Expected {LAYOUT}. Correct the row."
            )
    return CsvTable(shown, rows[0], rows[1:], lines[1:])
