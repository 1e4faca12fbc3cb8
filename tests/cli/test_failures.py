"""The net below every verb: exit codes, saved tracebacks, and one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from forebear.cli.failures import explained
from forebear.cli.main import main
from tests.cli.test_main import raising, verb

__all__ = ["verb"]  # the fixture


def forebear(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "forebear", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload,no-any-return]


def test_an_unexpected_error_is_one_line_and_a_saved_traceback(
    verb: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FOREBEAR_HOME", str(tmp_path))
    verb.run = raising(KeyError("classes\x1b"))
    assert main(["list", "x"]) == 70
    line = capsys.readouterr().err
    (saved,) = (tmp_path / "tracebacks").glob("*.txt")
    assert line.count("\n") == 1
    assert "an unexpected error, KeyError: 'classes\\x1b'. Expected none: this is a fault" in line
    assert f"The traceback is in {saved}; please report it" in line
    text = saved.read_text(encoding="utf-8")
    assert "arguments: ['list', 'x']" in text
    assert "raise error\nKeyError: " in text or "KeyError: " in text
    assert saved.stat().st_mode & 0o777 == 0o600


def test_an_error_of_a_library_is_unexpected_although_its_type_is_that_of_a_mistake(
    verb: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    verb.run = raising(ValueError("axis 3"), module="numpy.core")
    assert main(["list"]) == 70
    verb.run = lambda _: 1 + len(None)  # type: ignore[arg-type]
    assert main(["list"]) == 70
    assert capsys.readouterr().err.count("an unexpected error") == 2


def test_only_the_newest_tracebacks_are_kept(
    verb: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FOREBEAR_HOME", str(tmp_path))
    for number in range(30):
        path = tmp_path / "tracebacks" / f"2020-{number:02}.txt"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    verb.run = raising(KeyError("x"))
    assert main(["list"]) == 70
    left = sorted(path.name for path in (tmp_path / "tracebacks").iterdir())
    assert len(left) == 20
    assert left[0] == "2020-11.txt"


def test_without_a_home_the_traceback_goes_to_a_temporary_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FOREBEAR_HOME", str(tmp_path / "file" / "home"))
    monkeypatch.delenv("FOREBEAR_TRACEBACK", raising=False)
    assert explained(KeyError("x"), []) == 70
    path = Path(capsys.readouterr().err.split("The traceback is in ")[1].split(";")[0])
    assert path.is_file()
    path.unlink()
    path.parent.rmdir()


@pytest.mark.skipif(os.name != "posix", reason="closes descriptors as a shell does")
def test_closed_and_full_streams_are_one_line() -> None:
    shell = f'"{sys.executable}" -m forebear list'
    closed = subprocess.run(f"{shell} >&-", shell=True, capture_output=True, text=True, check=False)
    assert closed.returncode == 2
    assert closed.stderr.startswith("forebear: stdout is closed. Expected a place")
    assert closed.stderr.count("\n") == 1
    silent = subprocess.run(
        f"{shell} 2>&-", shell=True, capture_output=True, text=True, check=False
    )
    assert (silent.returncode, silent.stdout.count("\n") > 5) == (0, True)
    if Path("/dev/full").exists():
        full = subprocess.run(
            f"{shell} >/dev/full", shell=True, capture_output=True, text=True, check=False
        )
        assert full.returncode == 74
        assert full.stderr.count("\n") == 1


def test_a_terminal_that_lacks_a_character_gets_it_escaped(tmp_path: Path) -> None:
    for name in ("grün", "rot"):
        (tmp_path / name).mkdir()
    done = forebear("check", f"folder:{tmp_path}", env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 2
    assert done.stderr.startswith(f"forebear: {tmp_path}/gr\\xfcn: no images inside")


@pytest.mark.parametrize(
    "words",
    [
        ("check", "folder:~nobody-of-this-name/x"),
        ("evaluate", "x.safetensors", "--data", "digits", "--device", "xpu"),
        ("train", "--data", "digits", "--set", "lr=" + "[" * 5000),
        ("train", "--data", "digits", "--seed", "9" * 30),
        ("train", "--data", "digits", "--batch", "1000000001"),
        ("train", "--data", "digits", "--size", "60000"),
        ("train", "--data", "digits", "--save-every", "-1"),
        ("train", "--data", "digits", "--threads", "100000"),
        ("train", "--data", "digits", "--device", "meta"),
        ("train", "--data", "digits", "--lr", "inf"),
    ],
)
def test_mistakes_that_once_had_tracebacks_are_one_line(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(list(words)) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "xpected" in line
    assert len(line) < 700


def test_deep_nesting_in_files_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deep = "[" * 100_000
    (tmp_path / "t.json").write_text(deep)
    (tmp_path / "t.toml").write_text(f"a = {deep}")
    run = tmp_path / "run"
    run.mkdir()
    (run / "settings.json").write_text(deep)
    (run / "metrics.jsonl").write_text(deep)
    for words in (
        ["describe", str(tmp_path / "t.json")],
        ["describe", str(tmp_path / "t.toml")],
        ["train", "--data", "digits", "--recipe", str(tmp_path / "t.toml")],
        ["compare", str(run)],
        ["train", "--resume", str(run)],
    ):
        assert main(words) == 2, words
        assert capsys.readouterr().err.count("\n") == 1
    (run / "settings.json").write_text(json.dumps({"network": "x"}))
    assert main(["compare", str(run)]) == 0
