from __future__ import annotations

import contextlib
import io
from pathlib import Path

from forebear.cli.main import VERBS
from forebear.tables.files import resolve, table_from_dict
from forebear.tables.registry import NETWORKS

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return [part.partition("```")[0] for part in README.split(f"```{language}\n")[1:]]


def test_the_example_prints_what_stands_under_it() -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(blocks("python")[0], "README.md", "exec"), {})
    assert printed.getvalue() == blocks("text")[0]


def test_the_table_of_ones_own_builds() -> None:
    import tomllib

    table = table_from_dict(tomllib.loads(blocks("toml")[0]))
    assert [block.units for block in table.blocks] == [3, 5]
    assert resolve(table, "slim-v2")[1].name == "slim-v2"


def test_every_verb_and_home_is_in_the_readme() -> None:
    assert all(f"`forebear {verb}" in README for verb in VERBS)
    assert all(f"`{name.split('/')[0]}/`" in README for name in NETWORKS)
