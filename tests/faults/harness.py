"""Runs forebear in processes with limits, from the outside, and says what became of them.

`forebear` starts the real command, `python -m forebear`. `Zygote` (zygote.py) forks one off a
process that has imported everything, for the cases that need many runs or a fault inside. Both give
a `Child`, and at its end an `Outcome`.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
MEMORY = 2 * 2**30  # bytes of address space that a child may take
LONGEST = 60.0  # seconds that a child may take
START = 5.0  # seconds that a real command takes to import torch, on a busy machine


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a process."""

    code: int | None  # the exit code; negative: the signal that ended it; None: out of time
    stdout: str
    stderr: str
    seconds: float
    peak_mb: float  # the most memory that it held, MiB; 0 where that is unknown

    @property
    def lines(self) -> list[str]:
        """The lines on stderr."""
        return self.stderr.splitlines()

    def refused(self, *words: str, code: int = 2) -> str:
        """Asserts that the command was refused by one line; returns it."""
        line = self.failed(*words, code=code)
        assert len(self.lines) == 1, self.stderr
        return line

    def failed(self, *words: str, code: int = 2) -> str:
        """Asserts that the command ended with one error, in the last line; returns it.

        Args:
            words: That the line holds.
            code: The exit code.
        """
        assert self.code == code, self
        assert "Traceback" not in self.stderr, self.stderr
        line = self.lines[-1]
        assert line.startswith("forebear: "), self.stderr
        for word in words:
            assert word in line, (word, line)
        return line

    def succeeded(self) -> None:
        """Asserts that the command came to its end."""
        assert self.code == 0, self
        assert "Traceback" not in self.stderr, self.stderr


class Child:
    """A process that runs forebear, and leads a group of its own."""

    def __init__(
        self, number: int, folder: Path, ended: Callable[[], tuple[int, float] | None]
    ) -> None:
        """Takes a process over.

        Args:
            number: Of the process.
            folder: With the files stdout, stderr and, if it has a fault inside, trace.
            ended: Returns its wait status and its peak memory in MiB, or None while it runs.
        """
        self.number, self.folder, self._ended = number, folder, ended
        self.started = time.monotonic()
        self.outcome: Outcome | None = None

    def running(self) -> bool:
        """Whether it has not ended."""
        return self.outcome is None and self._look() is None

    def wait(self, seconds: float = LONGEST) -> Outcome:
        """Waits for the end; a process that is out of time is killed with its group."""
        until = time.monotonic() + seconds
        while self._look() is None and time.monotonic() < until:
            time.sleep(0.002)
        if self.outcome is None:
            self.kill()
            self._end(None, 0.0)
        assert self.outcome is not None
        return self.outcome

    def kill(self) -> None:
        """Ends it with its group, and waits until it is gone."""
        with suppress(ProcessLookupError):
            os.killpg(self.number, signal.SIGKILL)
        until = time.monotonic() + 10
        while self._look() is None:
            assert time.monotonic() < until, f"process {self.number} outlives SIGKILL"
            time.sleep(0.002)

    def signal(self, number: int) -> None:
        """Sends a signal to it alone."""
        os.kill(self.number, number)

    def until(self, ready: Callable[[], bool], seconds: float = LONGEST) -> None:
        """Waits until something has come true, which the process must live to see."""
        end = time.monotonic() + seconds
        while not ready():
            running = self.running()
            if ready():
                return
            assert running, self.outcome
            assert time.monotonic() < end, self.said()
            time.sleep(0.0005)

    def until_traced(self, line: str) -> None:
        """Waits until something has happened inside; inside.py lists what is traced."""
        self.until(lambda: line in self.trace())

    def trace(self) -> list[str]:
        """What has happened inside so far, of a child of the zygote."""
        path = self.folder / "trace"
        return path.read_text().splitlines() if path.exists() else []

    def said(self) -> str:
        """What it has written to stderr so far."""
        return _read(self.folder / "stderr")

    def _look(self) -> Outcome | None:
        if self.outcome is None:
            found = self._ended()
            if found is not None:
                self._end(os.waitstatus_to_exitcode(found[0]), found[1])
        return self.outcome

    def _end(self, code: int | None, peak: float) -> None:
        seconds = time.monotonic() - self.started
        out, err = (_read(self.folder / name) for name in ("stdout", "stderr"))
        self.outcome = Outcome(code, out, err, seconds, peak)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def start(
    *words: object,
    folder: Path,
    memory_bytes: int | None = MEMORY,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    program: Sequence[str] = (sys.executable, "-m", "forebear"),
) -> Child:
    """Starts the real command.

    Args:
        words: Its arguments.
        folder: For what it says; made here.
        memory_bytes: Of address space that it may take; None: any.
        env: Variables beside those of this process.
        cwd: Its working folder.
        program: What is run, such as torchrun.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
        with in_the_foreground():
            process = subprocess.Popen(
                [*program, *map(str, words)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=cwd,
                env=os.environ | {"OMP_NUM_THREADS": "1"} | dict(env or {}),
                start_new_session=True,
            )
    if memory_bytes is not None:
        with suppress(ProcessLookupError):
            resource.prlimit(process.pid, resource.RLIMIT_AS, (memory_bytes, memory_bytes))

    def ended() -> tuple[int, float] | None:
        number, status, used = os.wait4(process.pid, os.WNOHANG)
        if number == 0:
            return None
        process.returncode = os.waitstatus_to_exitcode(status)  # so that Popen does not wait too
        return status, used.ru_maxrss / 1024

    return Child(process.pid, folder, ended)


def forebear(
    *words: object,
    folder: Path,
    limit_seconds: float = LONGEST,
    memory_bytes: int | None = MEMORY,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Outcome:
    """Runs the real command to its end, within limits; see `start`."""
    child = start(*words, folder=folder, memory_bytes=memory_bytes, env=env, cwd=cwd)
    return child.wait(limit_seconds)


@contextmanager
def in_the_foreground() -> Iterator[None]:
    """A shell has what it starts in the background ignore SIGINT; children of it do not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
