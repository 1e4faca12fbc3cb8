"""The flags of forebear train, which are read off TrainConfig, and what they refuse."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from forebear.cli.main import main, make_parser
from forebear.data.sources.kinds import listed_specs
from forebear.settings import settings
from forebear.tasks.train.request import TrainConfig

UNNAMED = {"started", "fold"}  # when the command began, and which of the --folds a run is


def flags() -> dict[str, argparse.Action]:
    """The flags of the verb, by the names of their values."""
    found = {action.dest: action for action in make_parser("train")._actions}
    return {name: action for name, action in found.items() if name != "help"}


def test_every_field_of_a_config_has_a_flag_whose_help_is_its_own() -> None:
    known, found = settings(TrainConfig), flags()
    assert set(found) - set(known) == {"seeds", "folds", "resume"}  # runs, not fields of one
    assert set(known) - set(found) == UNNAMED
    assert found["data"].help == listed_specs()
    for name in set(known) - UNNAMED - {"data"}:
        assert str(found[name].help).startswith(known[name].help)
        assert known[name].default_text in str(found[name].help)


def test_without_flags_a_config_has_its_own_defaults_but_keeps_memory() -> None:
    args = make_parser("train").parse_args(["--data", "digits"])
    given = {name: getattr(args, name) for name in settings(TrainConfig) if name not in UNNAMED}
    assert given.pop("keep_memory") is True  # the process trains and ends
    own = TrainConfig(data="digits")
    assert tuple(given.pop("sets")) == own.sets
    assert given == {name: getattr(own, name) for name in given}


def test_the_names_of_flags_are_as_before() -> None:
    found = {name: action.option_strings for name, action in flags().items()}
    assert found["every"] == ["--save-every"]
    assert found["sets"] == ["--set"]
    assert found["hold_out"] == ["--hold-out"]
    assert found["mirror"] == ["--mirror", "--no-mirror"]
    assert found["keep_memory"] == ["--keep-memory", "--no-keep-memory"]
    assert found["multi_label"] == ["--multi-label", "--no-multi-label"]
    usual = set(found) - {"every", "sets", "mirror", "keep_memory", "multi_label"}
    assert all(found[name] == [f"--{name.replace('_', '-')}"] for name in usual)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        (("--lr", "0"), "lr=0.0: expected a number above 0. Pass such a value, or leave it out."),
        (("--bad", "warn"), "bad='warn': expected one of fail, skip. Pass such a value, or"),
        (("--compile", "fast"), "compile='fast': expected one of auto, off, on, graphs."),
        (("--threads", "0"), "threads=0: expected 1 to 1,024."),
        (("--budget", "0s"), "budget=0.0: expected a number above 0."),
        (("--budget", "9s", "--epochs", "3"), "budget=9 seconds and epochs=3: either ends a run."),
    ],
)
def test_help_and_mistakes_need_no_torch(flag: tuple[str, ...], message: str) -> None:
    program = (
        "import contextlib, io, sys\nfrom forebear.cli.main import main\n"
        f"code = main(['train', '--data', 'digits', *{flag!r}])\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "    main(['train', '--help'])\n"
        "print(code, {'torch', 'numpy', 'PIL', 'rich'} & set(sys.modules) or '')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["2"]
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"forebear: {message}")


@pytest.mark.parametrize(
    "flag",
    [
        ("--lr", "1"),
        ("--no-keep-memory",),
        ("--set", "lr=1"),
        ("--save-every", "1"),
        ("--partial",),
    ],
)
def test_a_resumed_run_takes_no_flag_that_it_would_ignore(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: tuple[str, ...]
) -> None:
    assert main(["train", "--resume", str(tmp_path), *flag]) == 2
    name = flag[0].replace("--no-", "--")
    assert f"{name} with --resume: a resumed run keeps its settings." in capsys.readouterr().err
