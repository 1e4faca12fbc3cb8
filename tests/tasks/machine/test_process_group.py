"""The groups of a run's processes: made once, taken down again, and waited for so long."""

from __future__ import annotations

import socket
import warnings

import pytest
from torch import distributed

from forebear.errors import RunError
from forebear.tasks.machine.process_group import (
    TIMEOUT,
    connect,
    disconnect,
    quiet_torch,
    timeout_seconds,
)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torchrun sets for a run of one process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    values = {"RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in values.items():
        monkeypatch.setenv(name, str(value))


@pytest.mark.parametrize(("text", "seconds"), [("7", 7.0), ("0.5", 0.5), (None, TIMEOUT)])
def test_the_timeout_is_in_seconds(
    text: str | None, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FOREBEAR_TIMEOUT", raising=False)
    if text is not None:
        monkeypatch.setenv("FOREBEAR_TIMEOUT", text)
    assert timeout_seconds() == seconds


@pytest.mark.parametrize("text", ["", "soon", "0", "-1", "inf", "nan"])
def test_another_timeout_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBEAR_TIMEOUT", text)
    with pytest.raises(ValueError, match=f"^FOREBEAR_TIMEOUT='{text}': expected seconds"):
        timeout_seconds()


@pytest.mark.usefixtures("alone")
def test_groups_are_made_and_taken_down_and_can_be_made_again() -> None:
    for restarts in (0, 0, 1):
        made = connect("gloo", restarts=restarts, timeout=20)
        try:
            assert distributed.get_world_size() == 1
            assert made.store is not None
            assert distributed.get_backend(made.quick) == "gloo"
            again = connect("gloo", restarts=restarts, timeout=20)
            assert again.store is None  # the default group was there
        finally:
            disconnect()
        assert not distributed.is_initialized()
    disconnect()  # there is nothing to take down


@pytest.mark.usefixtures("alone")
def test_processes_that_do_not_find_each_other_are_told_what_torchrun_sets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MASTER_ADDR")
    with pytest.raises(RunError, match=r"within 3 s \(.*MASTER_ADDR.*\)\. Expected .*RANK"):
        connect("gloo", restarts=0, timeout=3)
    assert not distributed.is_initialized()


def test_what_torch_says_in_every_process_is_hidden_and_nothing_else() -> None:
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        with quiet_torch():
            warnings.warn("`broadcast_buffers` is deprecated", FutureWarning, stacklevel=1)
            warnings.warn("something else", stacklevel=1)
        strides = "Grad strides do not match bucket view strides of it"
        with quiet_torch():
            warnings.warn(strides, stacklevel=1)
        warnings.warn(strides, stacklevel=1)
    assert [str(one.message)[:12] for one in shown] == ["something el", "Grad strides"]
