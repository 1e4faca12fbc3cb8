from __future__ import annotations

from pathlib import Path

from forebear.text import elided, escaped, json_text, one_line, printable, truncated


def test_text_that_prints_stays_and_all_other_is_escaped_on_one_line() -> None:
    assert printable("Füße 猫.png") == "Füße 猫.png"
    assert printable("a\nb\x1b[31m") == r"'a\nb\x1b[31m'"
    assert printable(Path("a\udcffb")) == r"'a\udcffb'"
    assert printable("") == ""


def test_long_text_loses_its_end() -> None:
    assert truncated("x" * 200) == "x" * 200
    assert truncated("x" * 201) == "x" * 200 + "..."
    assert truncated("a\nbcdef", 5) == r"'a\nb..."


def test_long_text_loses_its_middle() -> None:
    assert elided("abcdefghij", 10) == "abcdefghij"
    assert elided("abcdefghijk", 10) == "abcd…ghijk"
    assert elided("abcdefghijk", 7) == "abc…ijk"
    assert all(len(elided("x" * 300, most)) == most for most in range(2, 300))


def test_control_characters_are_escaped_and_line_breaks_may_stay() -> None:
    assert escaped("a\n\x1b\u202eü") == "a\n\\x1b\\u202eü"
    assert one_line("a\n\x1b\u202eü") == "a\\n\\x1b\\u202eü"
    assert json_text(["\x9b", "ü", 1]) == '["\\u009b", "ü", 1]'
