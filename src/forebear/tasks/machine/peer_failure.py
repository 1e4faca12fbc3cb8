"""Ends all processes of a run when one of them fails, and reports the failure once.

The first process that fails records its exit code in the store that all processes share. A thread
of every other process looks there each second, and ends its process even if that hangs. Only the
first process that failed shows its error; the others exit without a message.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import TypeVar

from torch import distributed
from torch.distributed.distributed_c10d import Store

from forebear.errors import ForebearError, RunError, StopError

T = TypeVar("T")

GRACE = 5.0  # seconds from the first failure to the end of a process that hangs
LINGER = 2.0  # seconds for the first failure to be shown; then torchrun ends all other processes
_FAILED = "failed"  # key in the store: exit code and rank of the first failure
_HEARD = "heard"  # key in the store: how many other processes know of it


class PeerError(RunError):
    """Another process of the run is gone or does not answer."""


class FailureWatch:
    """Tells the other processes of a failure here, and ends this process after a failure there."""

    def __init__(self, store: Store, *, rank: int, size: int, timeout: float) -> None:
        """Starts to watch.

        Args:
            store: The store of all processes.
            rank: The number of this process.
            size: The number of processes.
            timeout: Seconds without an answer after which torch gives up, for the message.
        """
        self._store, self._rank, self._size, self._timeout = store, rank, size, timeout
        self._failure = (2, -1)  # exit code and rank of the first failure; -1: there is none
        self._hangs = False  # whether the store has not answered in time
        self._left = threading.Event()  # this process knows of the failure, or is about to end
        threading.Thread(target=self._run, daemon=True).start()

    def leave(self) -> None:
        """Stops to watch, because this process ends on its own."""
        self._left.set()

    def report(self, error: BaseException) -> BaseException:
        """Tells the others of an error here.

        Returns:
            The exception to raise: the error itself if this process is to show it, a PeerError if
            another process was lost, or a SystemExit if another process shows its error.
        """
        if isinstance(error, SystemExit | GeneratorExit):
            return error
        if isinstance(error, StopError):
            self._tell(error.code)  # before the first step, only this process may have been stopped
            self.leave()
            return error if self._rank == 0 else _silent_exit(error.code)
        if _is_from_peer(error):
            if self._hears():
                return self._silenced()
            error = PeerError(
                f"process {self._rank} of {self._size}: another one is gone without a word, or has "
                f"not answered for {self._timeout:g} s ({first_line(error)}). Expected all of them "
                "to run to the end. Look for one that was killed, as for want of memory, and go on "
                "by forebear train --resume."
            )
        code = error.code if isinstance(error, ForebearError) else 2
        self._tell(130 if isinstance(error, KeyboardInterrupt) else code)
        if self._failure[1] != self._rank:
            return self._silenced()
        if self._rank == 0:  # this process may hold the store, which ends with it
            self._wait_until_heard(self._size - 1)
        self.leave()
        return error

    def _tell(self, code: int) -> None:
        """Records that this process has failed, unless another process has failed before."""
        try:
            failure = self._ask(
                lambda: self._store.compare_set(_FAILED, "", f"{code} {self._rank}")
            )
        except (RuntimeError, TimeoutError):  # the process that held the store ended or hangs
            failure = f"{code} {self._rank}".encode()
        if self._failure[1] < 0:
            self._failure = _parse(failure)

    def _hears(self) -> bool:
        """Whether another process has recorded a failure, or does so within a short time."""
        if self._failure[1] < 0:
            with suppress(RuntimeError, TimeoutError):
                self._failure = _parse(self._ask(self._wait_for_failure))
        return self._failure[1] >= 0

    def _wait_for_failure(self) -> bytes:
        self._store.wait([_FAILED], timedelta(seconds=LINGER))
        failure = self._store.get(_FAILED)
        self._store.add(_HEARD, 1)
        return failure

    def _ask(self, question: Callable[[], T]) -> T:
        """Returns an answer of the store; once it hangs it is not asked again.

        Raises:
            TimeoutError: The process that holds the store hangs.
        """
        if self._hangs:
            raise TimeoutError("the store does not answer")
        try:
            return _within(LINGER + 1, question)
        except TimeoutError:
            self._hangs = True
            raise

    def _wait_until_heard(self, count: int) -> None:
        """Waits a short time until `count` other processes know of the failure."""
        until = time.monotonic() + LINGER
        with suppress(RuntimeError):
            while self._store.add(_HEARD, 0) < count and time.monotonic() < until:
                time.sleep(0.05)

    def _silenced(self) -> SystemExit:
        self.leave()
        return _silent_exit(self._failure[0])

    def _run(self) -> None:
        while not self._left.wait(1.0):
            try:
                if not self._store.check([_FAILED]):
                    continue
                self._failure = _parse(self._store.get(_FAILED))
                self._store.add(_HEARD, 1)
            except RuntimeError:  # the store is gone, and the process that held it too
                pass
            if not self._left.wait(GRACE):
                os._exit(self._failure[0])
            return


def _within(seconds: float, ask: Callable[[], T]) -> T:
    """Returns the answer of the store, which hangs with the process that holds it.

    Raises:
        TimeoutError: There was no answer in time.
    """
    answers: list[T] = []
    errors: list[RuntimeError] = []

    def run() -> None:
        try:
            answers.append(ask())
        except RuntimeError as error:
            errors.append(error)

    asking = threading.Thread(target=run, daemon=True)
    asking.start()
    asking.join(seconds)
    if errors:
        raise errors[0]
    if not answers:
        raise TimeoutError(f"the store did not answer within {seconds:g} s")
    return answers[0]


def first_line(error: BaseException) -> str:
    """Returns the first line of torch's message, without its prefixes in brackets."""
    line = str(error).strip().partition("\n")[0].rstrip(".")
    return line.rpartition("] ")[2] if line.startswith("[") else line


def _parse(failure: bytes) -> tuple[int, int]:
    code, rank = failure.split()
    return int(code), int(rank)


def _is_from_peer(error: BaseException) -> bool:
    """Whether gloo, NCCL or the store raised the error because another process is gone."""
    named = isinstance(error, RuntimeError) and any(name in str(error) for name in ("gloo", "NCCL"))
    return named or isinstance(error, distributed.DistError)


def _silent_exit(code: int) -> SystemExit:
    """Returns an exit without a message, after the process with the message had time for it."""
    time.sleep(LINGER)
    return SystemExit(code)
