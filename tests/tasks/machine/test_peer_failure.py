"""Of the processes that fail, the first shows its error, and the others end in silence."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch.distributed.rendezvous import rendezvous

from forebear.errors import DataError, StopError
from forebear.tasks.machine import peer_failure as module
from forebear.tasks.machine.peer_failure import FailureWatch, PeerError, first_line


@pytest.fixture
def watches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[FailureWatch]:
    """Two processes' watches of one store; their threads end nothing, for they are left."""
    monkeypatch.setattr(module, "LINGER", 0.05)
    store = next(rendezvous(f"file://{tmp_path}/store?rank=0&world_size=1"))[0]
    made = [FailureWatch(store, rank=rank, size=2, timeout=7) for rank in (0, 1)]
    for watch in made:
        watch.leave()
    return made


def test_the_first_error_is_shown_and_the_second_exits_with_its_code(
    watches: list[FailureWatch],
) -> None:
    first, second = DataError("a.png: cut"), ValueError("x")
    assert watches[1].report(first) is first
    silent = watches[0].report(second)
    assert isinstance(silent, SystemExit)
    assert silent.code == 2


def test_an_interrupt_has_its_own_code(watches: list[FailureWatch]) -> None:
    error = KeyboardInterrupt()
    assert watches[0].report(error) is error
    silent = watches[1].report(RuntimeError("gloo: connection closed by peer"))
    assert isinstance(silent, SystemExit)
    assert silent.code == 130


def test_a_process_that_is_gone_without_a_word_is_named(watches: list[FailureWatch]) -> None:
    lost = RuntimeError("[../gloo/pair.cc:1] Connection closed by peer\nmore of it")
    told = watches[1].report(lost)
    assert isinstance(told, PeerError)
    assert str(told).startswith("process 1 of 2: ")
    assert "7 s (Connection closed by peer)" in str(told)


def test_a_stop_is_shown_by_the_first_process_alone(watches: list[FailureWatch]) -> None:
    stop = StopError("stopped and saved", 15)
    assert watches[0].report(stop) is stop
    silent = watches[1].report(StopError("stopped and saved", 15))
    assert isinstance(silent, SystemExit)
    assert silent.code == 143


@pytest.mark.parametrize("error", [SystemExit(3), GeneratorExit()])
def test_an_exit_is_no_failure(error: BaseException, watches: list[FailureWatch]) -> None:
    assert watches[0].report(error) is error
    other = DataError("x")
    assert watches[1].report(other) is other  # it is the first


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("one.\ntwo", "one"),
        ("[rank 1] [file.cc:3] gone", "gone"),
        ("a [b] c", "a [b] c"),
        ("", ""),
    ],
)
def test_of_torchs_message_the_first_line_is_shown(text: str, line: str) -> None:
    assert first_line(RuntimeError(text)) == line
