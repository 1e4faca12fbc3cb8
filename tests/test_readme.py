"""The README: short, with every verb and library, and what its code blocks say is so."""

from __future__ import annotations

import contextlib
import io

from forebear.cli.main import VERBS
from forebear.tables.registry import NETWORKS
from tests.markdown import ROOT, blocks

PATH = ROOT / "README.md"
README = PATH.read_text(encoding="utf-8")


def test_the_example_prints_what_stands_under_it() -> None:
    bodies = [body for language, body in blocks(PATH) if language in ("python", "text")]
    assert len(bodies) == 2
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(bodies[0], "README.md", "exec"), {})
    assert printed.getvalue() == bodies[1]


def test_every_verb_and_library_is_in_the_readme() -> None:
    assert all(f"`forebear {verb}" in README for verb in VERBS)
    assert all(f"`{name.split('/')[0]}/`" in README for name in NETWORKS)


def test_every_command_of_the_readme_parses() -> None:
    from tests.test_docs import refused_commands

    assert refused_commands(PATH) == []


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 170
