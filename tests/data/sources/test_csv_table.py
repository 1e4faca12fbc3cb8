from __future__ import annotations

from pathlib import Path

import pytest

from forebear.data.sources.csv_table import CsvTable, read_table
from forebear.errors import DataError
from tests.data.making import write


def table(path: Path, text: str) -> CsvTable:
    return read_table(write(path / "a.csv", text.encode()))


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_rows_know_their_lines_past_empty_ones_and_breaks_in_cells(
    mark: str, tmp_path: Path
) -> None:
    read = table(tmp_path, f'\ufeffa{mark}b\n1{mark}2\n\n"x\ny"{mark}3\n4{mark}5\n')
    assert read.header == ["a", "b"]
    assert read.rows == [["1", "2"], ["x\ny", "3"], ["4", "5"]]
    assert read.lines == [2, 5, 6]


def test_a_column_is_named_as_written_or_in_any_case(tmp_path: Path) -> None:
    read = table(tmp_path, "Name, name ,KIND\n1,2,3\n")
    assert [read.named(name, "--x") for name in ("Name", "name", "kind", " KIND")] == [0, 1, 2, 2]


def test_an_unknown_column_lists_those_of_the_file(tmp_path: Path) -> None:
    read = table(tmp_path, "file,kind\n1,2\n")
    said = r"a\.csv: --label-column kinds: no such column\. .*kind\? Expected one of file, kind\."
    with pytest.raises(DataError, match=said):
        read.named("kinds", "--label-column")
    wide = table(tmp_path, ",".join(f"c{n}" for n in range(50)) + "\n" + "," * 49 + "1\n")
    with pytest.raises(DataError, match=r"c39, \.\.\."):
        wide.named("none of them", "--label-column")


def test_two_columns_of_one_name_are_refused_if_they_are_needed(tmp_path: Path) -> None:
    read = table(tmp_path, "image,label,Label,x,x\n1,2,3,4,5\n")
    assert read.known(("image", "label")) == 0
    assert read.known(("label",), without=(2,)) == 1
    with pytest.raises(DataError, match="2 columns are called label. Expected different names"):
        read.known(("label",))
    with pytest.raises(DataError, match="2 columns are called x. Expected different names"):
        read.named("x", "--group-by")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n", "no rows"),
        ("", "no rows"),
        ("a,b\n\n1,2,3\n", "line 3 has 3 columns, the header 2"),
        ('a,b\n"1,2\n', "line 2 has 1 columns|cannot be read"),
    ],
)
def test_files_that_are_no_tables_say_why(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        table(tmp_path, text)


def test_files_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_table(tmp_path / "gone.csv")
    with pytest.raises(DataError, match="Expected a CSV file in UTF-8"):
        read_table(write(tmp_path / "latin.csv", b"a,b\n\xe9,1\n"))
