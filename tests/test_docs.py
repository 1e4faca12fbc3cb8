"""The pages of docs/: their links, their examples, and the parts that are made from the code."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.util
import io
import re
import shlex
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

import forebear
from forebear import limits
from forebear.cli.main import VERBS, main, make_parser
from forebear.settings import settings
from forebear.tables.files import resolve, table_from_dict
from forebear.tasks.train.recipe import Recipe
from forebear.tasks.train.recipe_files import recipes, show
from forebear.weights.catalog import Published
from tests.markdown import DOCS, ROOT, blocks, links

PAGES = sorted(DOCS.glob("*.md"))
TUTORIAL = DOCS / "tutorial.md"  # executed by test_tutorial.py


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def actions(verb: str) -> list[argparse.Action]:
    found = make_parser(verb)._actions
    return [one for one in found if not isinstance(one, argparse._HelpAction)]


def refused_commands(page: Path) -> list[str]:
    """The forebear commands in a page's console blocks that a verb's parser does not take."""
    refused = []
    for _, body in (block for block in blocks(page) if block[0] == "console"):
        for command in re.findall(r"^\$ (.+)$", body.replace("\\\n", " "), re.MULTILINE):
            words = shlex.split(command.replace("...", "folder:x"), comments=True)
            if "forebear" not in words:
                continue
            words = words[words.index("forebear") + 1 :]
            words = words[: words.index(">")] if ">" in words else words
            try:
                with contextlib.redirect_stderr(io.StringIO()):
                    make_parser(words[0]).parse_args(words[1:])
            except (SystemExit, ValueError):
                refused.append(command)
    return refused


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_page_parses(page: Path) -> None:
    assert refused_commands(page) == []


@pytest.mark.parametrize(
    "page",
    [
        *PAGES,
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
    ],
    ids=lambda page: page.stem,
)
def test_every_link_inside_the_repository_leads_somewhere(page: Path) -> None:
    local = [link.partition("#")[0] for link in links(page) if "://" not in link]
    assert [link for link in local if link and not (page.parent / link).exists()] == []


@pytest.mark.parametrize("name", ["dense", "networks"])
def test_the_examples_of_a_page_print_what_stands_under_them(name: str) -> None:
    found = [block for block in blocks(DOCS / f"{name}.md") if block[0] in ("python", "text")]
    assert [language for language, _ in found] == ["python", "text"] * (len(found) // 2)
    names: dict[str, object] = {}
    for (_, code), (_, expected) in zip(found[::2], found[1::2], strict=True):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, f"{name}.md", "exec"), names)
        assert printed.getvalue() == expected


def our_calls() -> list[str]:
    """The code in the right columns of the tables of docs/coming-from.md, in order."""
    rows = re.findall(r"^\| .+? \| (.+) \|$", (DOCS / "coming-from.md").read_text(), re.MULTILINE)
    return [call for row in rows for call in re.findall(r"`([^`]+)`", row)]


def files_to_come_with(folder: Path) -> None:
    """Writes the files that docs/coming-from.md loads."""
    for name, network in (
        ("resnet_v1_50.ckpt", "slim/resnet_v1_50"),
        ("model.weights.h5", "keras/ResNet50"),
        ("resnet18.pth", "torchvision/resnet18"),
        ("last.pth.tar", "timm/resnet18"),
    ):
        forebear.save(forebear.create(network), folder / name)
    transformers = ["convert", str(folder / "resnet18.pth"), str(folder / "resnet-18")]
    assert main([*transformers, "--to", "transformers"]) == 0
    Image.new("RGB", (300, 260), "teal").save(folder / "photo.jpg")


@pytest.mark.slow
def test_our_calls_in_place_of_other_libraries_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"slim": "resnet_v1_50.ckpt", "keras": "model.weights.h5", "timm": "last.pth.tar"}

    def fetch(row: Published, **_: object) -> Path:
        return tmp_path / files.get(row.network.partition("/")[0], "resnet18.pth")

    files_to_come_with(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("forebear.weights.load.fetch", fetch)
    [(_, setup)] = blocks(DOCS / "coming-from.md")
    names: dict[str, Any] = {}
    exec(compile(setup, "coming-from.md", "exec"), names)
    calls = our_calls()
    assert len(calls) == 57
    for call in calls:
        if call.startswith("forebear "):
            assert main(call.split()[1:]) == 0
        else:
            exec(compile(call, "coming-from.md", "exec"), names)


def test_the_table_of_ones_own_builds() -> None:
    [text] = [body for language, body in blocks(DOCS / "networks.md") if language == "toml"]
    table = table_from_dict(tomllib.loads(text))
    assert [block.units for block in table.blocks] == [3, 5]
    assert resolve(table, "slim-v2")[1].name == "slim-v2"


def test_every_page_is_in_the_contents() -> None:
    listed = re.findall(r"^[a-z-]+$", (DOCS / "index.md").read_text(), re.MULTILINE)
    assert sorted([*listed, "index"]) == [page.stem for page in PAGES]


def test_the_api_page_has_the_public_names_and_no_other() -> None:
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    named = re.findall(r"^\.\. auto\w+:: forebear\.(\w+)(?:\(\))?$", text, re.MULTILINE)
    assert sorted(named) == sorted(forebear.__all__)


def test_the_command_line_page_has_every_argument_with_its_help(generate: ModuleType) -> None:
    sections = generate.verbs().split("\n## forebear ")
    assert len(sections) == len(VERBS)
    for verb, section in zip(VERBS, sections, strict=True):
        for action in actions(verb):
            name = next(iter(action.option_strings), "")
            assert f"```{{option}} {name}" in section
            assert section.count("```{option}") == len(actions(verb))
        assert "%(" not in section  # argparse fills in defaults


def test_the_api_page_has_the_meaning_of_every_field_of_a_training_config(
    generate: ModuleType,
) -> None:
    table = generate.fields_table(forebear.TrainConfig).splitlines()
    rows = [line for line in table if line.startswith("| `")]
    for line, known in zip(rows, settings(forebear.TrainConfig).values(), strict=True):
        assert line.startswith(f"| `{known.name}` | ")
        assert generate._sentence(known.help) in line
        assert known.unit in line
        assert known.default_text in line
    assert "| `lr` | `float`, above 0 | `None`: the recipe's | peak learning rate;" in "".join(
        table
    )
    assert "| `bad` | `fail`, `skip` | `'fail'` | images" in "".join(table)


def test_the_recipes_page_has_every_file_and_every_field(generate: ModuleType) -> None:
    page = generate.all_recipes()
    assert all(show(name).rstrip() in page for name in recipes())
    table = generate.fields_table(Recipe)
    assert all(f"| `{field.name}` | " in table for field in dataclasses.fields(Recipe))
    assert "| `shift` | `int`, pixels, -1 or more | `-1` | the largest shift to each side" in table


def test_a_marker_that_nothing_is_made_for_is_refused(generate: ModuleType) -> None:
    assert generate.fill("text\n") == "text\n"
    with pytest.raises(ValueError, match="generated: 'verb'"):
        generate.fill("<!-- generated: verb -->")


def test_every_limit_is_documented() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    names = [name for name in vars(limits) if name.isupper() and name != "MIB"]
    assert [name for name in names if f"`{name}`" not in text] == []
    for shown, value in (
        ("16 MiB, nested 64 levels", (limits.TEXT_BYTES, limits.NESTING) == (16 * 2**20, 64)),
        ("64 million", limits.IMAGE_PIXELS == 64_000_000),
        ("8,192 pixels", limits.INPUT_SIDE == 8192),
        ("100,000 and 1,000", (limits.CLASSES, limits.CLASS_NAME) == (100_000, 1_000)),
    ):
        assert shown in text
        assert value
