"""Lines that leave the program have no control characters."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from forebear.cli import output

ATTACK = "a\x1b]0;title\x07\x9b31m\u202eb\udcff"
CLI = Path(output.__file__).parent


def test_results_keep_their_lines_and_nothing_else_that_moves_a_cursor(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output.result(f"ü\n{ATTACK}\n猫")
    assert capsys.readouterr().out == "ü\n" + r"a\x1b]0;title\x07\x9b31m\u202eb\udcff" + "\n猫\n"


def test_json_stays_json(capsys: pytest.CaptureFixture[str]) -> None:
    output.result_json({"class": ATTACK, "other": "ü"})
    line = capsys.readouterr().out
    assert line[:-1].isprintable()
    assert json.loads(line) == {"class": ATTACK, "other": "ü"}
    assert "ü" in line


def test_json_has_no_numbers_that_are_none() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        output.result_json({"loss": float("nan")})


def test_a_note_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    output.note("a\nb\r\x1b")
    assert capsys.readouterr().err == "forebear: a\\nb\\r\\x1b\n"


@pytest.mark.parametrize("path", sorted(CLI.glob("*.py")), ids=lambda path: path.stem)
def test_no_verb_prints_by_itself(path: Path) -> None:
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    prints = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]
    allowed = {"output": 3, "benchmark": 2}.get(path.stem, 0)  # benchmark: its own progress line
    assert len(prints) == allowed
