"""forebear dialects: the tables, the page that is made from them, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from forebear.cli.main import main
from forebear.tables.dialects import DIALECTS

PAGE = Path(__file__).parents[2] / "docs" / "dialects.md"


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["dialects", *words]) == 0
    return capsys.readouterr().out


def test_the_page_is_what_the_verb_prints(capsys: pytest.CaptureFixture[str]) -> None:
    expected = printed(capsys, "--markdown")
    assert PAGE.read_text(encoding="utf-8") == expected, (
        "run forebear dialects --markdown > docs/dialects.md"
    )


def test_every_dialect_has_a_row_in_every_table(capsys: pytest.CaptureFixture[str]) -> None:
    topics = printed(capsys, "--markdown").split("\n## ")[1:]
    assert len(topics) == 8
    for topic in topics:
        _, _, header, _, *rows = topic.splitlines()
        assert header.startswith("| dialect |")
        assert [row.split("`")[1] for row in rows if row] == [*DIALECTS]
        assert {row.count(" | ") for row in rows if row} == {header.count(" | ")}


@pytest.mark.parametrize("width", [80, 120])
def test_lines_fit_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = printed(capsys).splitlines()
    names = [line.partition(" ")[0] for line in lines]
    assert all(names.count(name) == 8 for name in DIALECTS)  # none is broken in two
    assert width - 10 < max(map(len, lines)) <= width


def test_a_network_stands_for_its_dialect(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    text = printed(capsys, "torchvision/resnet50", "slim/resnet_v1_50")
    rows = [" ".join(line.split()) for line in text.splitlines()]
    at = rows.index("Residual units")
    assert rows[at + 1 : at + 4] == [
        "dialect norm and ReLU strided convolution shortcuts project",
        "slim-v1 after each convolution (v1) 3x3 (conv2) of the last unit where channels change",
        "torchvision after each convolution (v1) 3x3 (conv2) of the first unit; basic units: "
        "where channels or stride change",
    ]
    assert text.count("\nslim-v1 ") == text.count("\ntorchvision ") == 8


def test_json_has_the_records_own_values(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = json.loads(printed(capsys, "slim-v?", "--json"))
    assert (first["dialect"], second["dialect"]) == ("slim-v1", "slim-v2")
    assert second["networks"][0] == "slim/resnet_v2_50"
    assert second["answers"]["norm_eps"] == 1e-5
    assert second["answers"]["preprocessing"]["size"] == 299
    assert second["facts"]["Norms"]["epsilon"] == "1e-5"
    assert len(json.loads(printed(capsys, "--json"))) == len(DIALECTS)


@pytest.mark.parametrize(
    ("pattern", "near"),
    [
        ("slim-v3", "Did you mean slim-v2 or slim-v1?"),
        ("slim/resnet_v1_5O", "Did you mean slim/resnet_v1_50"),
        ("zzz", 'as in "slim-*" or "slim/resnet_v1_50".'),
    ],
)
def test_a_pattern_that_matches_nothing_is_refused(
    capsys: pytest.CaptureFixture[str], pattern: str, near: str
) -> None:
    assert main(["dialects", "keras-v1", pattern]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"forebear: PATTERN={pattern!r} matches none of the 32 dialects.")
    assert near in err
    assert err.count("\n") == 1


def test_the_tables_need_no_torch() -> None:
    program = (
        "import sys\nfrom forebear.cli.main import main\nmain(['dialects'])\n"
        "sys.exit(str({'torch', 'numpy'} & set(sys.modules) or ''))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == ""
