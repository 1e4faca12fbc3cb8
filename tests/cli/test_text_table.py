"""Tables in straight columns, wrapped where a line would be too long."""

from __future__ import annotations

from forebear.cli.text_table import columns, wrapped

ROWS = [("name", "what"), ("a", "one two three"), ("bb", "")]


def test_columns_are_straight() -> None:
    assert columns(ROWS, "><") == ["name  what", "   a  one two three", "  bb"]


def test_nothing_is_wrapped_that_fits() -> None:
    assert wrapped(ROWS, 19) == columns(ROWS, "<<")


def test_the_widest_column_is_wrapped_first() -> None:
    assert wrapped(ROWS, 13) == ["name  what", "a     one two", "      three", "bb"]


def test_no_word_is_broken_however_narrow_it_gets() -> None:
    assert wrapped(ROWS, 1) == ["name  what", "a     one", "      two", "      three", "bb"]
    assert wrapped([("x", "tf-bilinear of-four")], 10) == ["x  tf-bilinear", "   of-four"]
