"""docs/tutorial.md is executed: every command and every Python block, in order, in an empty folder.

Output is compared as doctest does, with ... for what is left out. Percentages, which differ from
machine to machine, may be five points away from those on the page.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import pytest

from tests.markdown import DOCS, blocks

PAGE = DOCS / "tutorial.md"
POINTS = 5.0  # that a percentage may be away
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s?%")


@dataclass(frozen=True)
class Step:
    """A command or a Python block, and what it should print to stdout."""

    language: str
    code: str
    expected: str


def steps() -> Iterator[Step]:
    found = blocks(PAGE)
    for number, (language, body) in enumerate(found):
        if language == "python":
            following = found[number + 1 :][:1]
            output = "".join(text for kind, text in following if kind == "text")
            yield Step(language, body, output)
        elif language == "console":
            for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
                command, _, output = part.partition("\n")
                yield Step(language, command, output)


def same(expected: str, printed: str) -> bool:
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    want, got = (_PERCENT.sub("%", text) for text in (expected, printed))
    if not doctest.OutputChecker().check_output(want, got, flags):
        return False
    known = list(takewhile(lambda line: "..." not in line, expected.splitlines()))
    pairs = zip(_PERCENT.findall("\n".join(known)), _PERCENT.findall(printed), strict=False)
    return all(abs(float(ours) - float(theirs)) <= POINTS for ours, theirs in pairs)


def shell(command: str) -> str:
    words = shlex.split(command)
    assert words[0] == "forebear", f"the tutorial runs {command!r}, which is not forebear"
    done = subprocess.run(
        [sys.executable, "-m", "forebear", *words[1:]], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_tutorial_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    install, *rest = steps()
    assert install.code == "pip install '.[all]'"  # make try-wheel installs from nothing
    names: dict[str, object] = {}
    for step in rest:
        if step.language == "console":
            printed = shell(step.code)
        else:
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                exec(compile(step.code, "tutorial.md", "exec"), names)
            printed = output.getvalue()
        assert same(step.expected, printed), (
            f"{step.code}\nprinted:\n{printed}\ndocs/tutorial.md has:\n{step.expected}"
        )
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"digits", "budget", "python"}


@pytest.mark.parametrize(
    ("printed", "fits"),
    [
        ("top-1  97.2%\nof 269 images\n", True),
        ("top-1  91.0%\nof 269 images\n", False),
        ("top-1  97.2%\nof 270 images\n", False),
        ("top-5  97.2%\nof 269 images\n", False),
    ],
)
def test_output_that_differs_is_seen(printed: str, fits: bool) -> None:
    assert same("top-1 98.9%\nof 269 ...\n", printed) is fits
