"""forebear tune: what it prints, and what it refuses before anything is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from forebear.cli.main import main
from tests.cli.making import folder, table


@pytest.mark.long
def test_the_trials_the_winner_and_the_caveat_are_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("optuna")
    for part in ("train", "val"):
        folder(tmp_path / "data" / part, 10)
    words = ["tune", "--data", f"folder:{tmp_path / 'data'}", "--epochs", "1", "--time", "60s"]
    words += ["--network", str(table(tmp_path / "tiny.toml")), "--dialect", "paper-cifar"]
    words += ["--trials", "2", "--out", str(tmp_path / "out"), "--threads", "1"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "trial-000" in printed
    assert "the unchanged recipe" in printed
    assert "chose it among 2 trials, so this number is optimistic" in printed
    assert "of 30 images." in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "digits", "--time", "1m"], "--out is missing"),
        (["--data", "digits", "--out", "x", "--time", "soon"], "time='soon'"),
        (["--data", "digits", "--out", "x", "--time", "1m", "--search", "lrr=1,2"], "mean lr"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_missing_optuna_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main(["tune", "--data", "digits", "--time", "1m", "--out", str(tmp_path / "o")]) == 2
    assert "pip install 'forebear[tune]'" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_the_help_loads_neither_torch_nor_numpy_nor_optuna() -> None:
    code = (
        "import sys\nfrom forebear.cli.main import main\n"
        "try: main(['tune', '--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'numpy', 'optuna'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
