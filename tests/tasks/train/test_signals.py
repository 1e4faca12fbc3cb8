from __future__ import annotations

import os
import signal

import pytest

from forebear.errors import StopError
from forebear.tasks.train.signals import StopSignals


def test_a_signal_is_noted_once_there_is_something_to_save() -> None:
    with StopSignals(says=False) as stopping:
        stopping.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopping.number == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_before_that_it_ends_the_run_where_it_is() -> None:
    with StopSignals(says=False), pytest.raises(StopError, match="before the first step") as raised:
        os.kill(os.getpid(), signal.SIGTERM)
    assert raised.value.code == 143


def test_two_signals_of_one_request_are_one_under_torchrun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    for run, expected in ((None, [143]), ("1", [])):
        ended.clear()
        if run:
            monkeypatch.setenv("TORCHELASTIC_RUN_ID", run)
        with StopSignals(says=False) as stopping:
            stopping.wait()
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGTERM)
        assert ended == expected
