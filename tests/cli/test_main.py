"""The entry point: verbs, exit codes and one line for every mistake."""

from __future__ import annotations

import importlib
import logging
import sys
from types import SimpleNamespace

import pytest

from forebear.cli.main import VERBS, main, make_parser
from forebear.errors import DataError, StopError
from forebear.version import __version__


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """`forebear list`, with another `run`."""
    made = SimpleNamespace(run=lambda _: 0)
    listing = importlib.import_module("forebear.cli.list")
    monkeypatch.setattr(listing, "run", lambda args: made.run(args))
    monkeypatch.delenv("FOREBEAR_TRACEBACK", raising=False)
    return made


def raising(error: BaseException, module: str = "forebear.cli.list") -> object:
    """A `run` that raises an error in a module of this name."""
    scope: dict[str, object] = {"error": error, "__name__": module}
    exec("def run(_):\n    raise error", scope)
    return scope["run"]


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_has_a_module_with_help_and_an_example(name: str) -> None:
    parser = make_parser(name)
    told = importlib.import_module(f"forebear.cli.{name}")
    assert parser.prog == f"forebear {name}"
    assert told.EXAMPLE.startswith(f"forebear {name} ") or f"forebear {name}" == told.EXAMPLE
    assert told.EXAMPLE in parser.format_help()
    assert told.SUMMARY.endswith(".")
    assert "\n" not in told.SUMMARY


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_without_a_verb_all_verbs_are_shown(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 0
    out = capsys.readouterr().out
    for name, summary in VERBS.items():
        assert f"  {name:<10} {summary}\n" in out


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"forebear {__version__}\n"


def test_an_unknown_verb_gets_near_misses(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian", "--data", "digits"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        f"forebear: verb 'trian' is unknown. Expected one of {', '.join(VERBS)}. "
        "Did you mean train?\n"
    )


def test_the_words_of_the_command_line_are_taken_where_none_are_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["forebear", "list", "paper/resnet20"])
    assert main() == 0
    assert capsys.readouterr().out.splitlines() == ["paper/resnet20"]


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (DataError("a.png: cut"), 2, "a.png: cut"),
        (ValueError("x=1: expected 2."), 2, "x=1: expected 2."),
        (TypeError("x of type str"), 2, "x of type str"),
        (StopError("stopped and saved", 15), 143, "stopped and saved"),
        (KeyboardInterrupt(), 130, "interrupted."),
        (
            OSError(28, "No space left", "runs/a"),
            74,
            "runs/a: No space left. Expected room on a working disk. Free some disk space, or pass "
            "a writable folder.",
        ),
        (
            OSError(13, "Permission denied", "runs/a"),
            2,
            "runs/a: Permission denied. Expected a path that can be read or written. Check the "
            "path and its permissions.",
        ),
        (
            MemoryError(),
            2,
            "memory has run out. Expected enough for the data and the network. Pass a smaller "
            "batch or size, or free some memory.",
        ),
        (DataError("a\x1b[31m\nb"), 2, r"a\x1b[31m\nb"),
    ],
)
def test_an_error_is_one_line_and_a_code(
    error: BaseException,
    code: int,
    said: str,
    verb: SimpleNamespace,
    capsys: pytest.CaptureFixture[str],
) -> None:
    verb.run = raising(error)
    assert main(["list"]) == code
    assert capsys.readouterr() == ("", f"forebear: {said}\n")


def test_a_code_of_the_verb_is_the_exit_code(verb: SimpleNamespace) -> None:
    verb.run = lambda _: 1
    assert main(["list"]) == 1


@pytest.mark.parametrize("error", [ValueError("x"), DataError("x"), OSError(28, "full")])
def test_the_traceback_is_shown_where_it_is_asked_for(
    error: Exception, verb: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREBEAR_TRACEBACK", "1")
    verb.run = raising(error)
    with pytest.raises(type(error)) as caught:
        main(["list"])
    assert caught.value is error


def test_arguments_that_do_not_parse_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict"]) == 2
    assert main(["list", "--nonsense"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("forebear: the following arguments are required: RUN IMAGE")
    assert second == (
        "forebear: unrecognized arguments: --nonsense. Run forebear list --help for the arguments."
    )


def test_warnings_are_shown_and_notes_are_not(verb: SimpleNamespace) -> None:
    main(["list"])
    assert logging.getLogger("forebear").getEffectiveLevel() == logging.WARNING
