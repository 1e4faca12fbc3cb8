"""docs/tutorial.md and docs/my-folder.md are executed in an empty folder, step by step.

A command block that begins with pip install is about an optional extra, and is left out.
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

TUTORIAL, MY_FOLDER = DOCS / "tutorial.md", DOCS / "my-folder.md"
POINTS = 5.0  # that a percentage may be away
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s?%")


@dataclass(frozen=True)
class Step:
    """A command or a Python block, and what it should print to stdout."""

    language: str
    code: str
    expected: str


def steps(page: Path) -> Iterator[Step]:
    found = blocks(page)
    for number, (language, body) in enumerate(found):
        if language == "python":
            following = found[number + 1 :][:1]
            output = "".join(text for kind, text in following if kind == "text")
            yield Step(language, body, output)
        elif language == "console" and not body.startswith("$ pip install"):
            for part in re.split(r"^\$ ", body.replace("\\\n", " "), flags=re.MULTILINE)[1:]:
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
    assert words[0] == "forebear", f"the page runs {command!r}, which is not forebear"
    done = subprocess.run(
        [sys.executable, "-m", "forebear", *words[1:]], capture_output=True, text=True, check=False
    )
    unusable = "cannot be used" in done.stdout  # images, which forebear check reports by 1
    assert done.returncode == int(unusable), done.stderr
    return done.stdout


def follow(page: Path) -> None:
    """Executes the steps of a page in the working directory, and compares what they print."""
    names: dict[str, object] = {}
    for step in steps(page):
        if step.language == "console":
            printed = shell(step.code)
        else:
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                exec(compile(step.code, page.name, "exec"), names)
            printed = output.getvalue()
        assert same(step.expected, printed), (
            f"{step.code}\nprinted:\n{printed}\n{page.name} has:\n{step.expected}"
        )


@pytest.mark.slow
def test_the_tutorial_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    follow(TUTORIAL)
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"digits", "budget", "python"}


@pytest.mark.slow
def test_the_guide_to_my_folder_does_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for extra in ("cleanlab", "imagehash", "onnx", "onnxruntime"):
        pytest.importorskip(extra)
    monkeypatch.chdir(tmp_path)
    follow(MY_FOLDER)
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"first", "shapes", "folds"}


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
