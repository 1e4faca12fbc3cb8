"""Runs forebear in processes with limits, from the outside, and says what became of them.

`forebear` starts the real command, `python -m forebear`. `Zygote` (zygote.py) forks one off a
process that has imported everything, for the cases that need many runs or a fault inside. Both give
a `Child`, and at its end an `Outcome`.
"""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Bytes of address space that a child may take in addition to what it has once torch is imported:
# 0.7 GiB with torch's build for CPUs, 3.3 GiB with that for CUDA.
MEMORY = 5 * 2**28
LONGEST = 60.0  # seconds that a child may take
PROGRAM = (sys.executable, "-m", "forebear")
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


class Pipe:
    """What a child writes: no file, so that a limit on the size of files does not touch it."""

    SIZE = 2**20  # bytes that a child may write while nobody reads

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self._handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        fcntl.fcntl(self._handle, fcntl.F_SETPIPE_SZ, self.SIZE)
        self._data = bytearray()

    def text(self) -> str:
        """Returns all that was written so far."""
        with suppress(BlockingIOError):
            while more := os.read(self._handle, self.SIZE):
                self._data += more
        return self._data.decode("utf-8", errors="replace")

    def close(self) -> None:
        """Ends it; what was read stays."""
        self.text()
        os.close(self._handle)


def pipes(folder: Path) -> dict[str, Pipe]:
    """Makes the pipes of a child, under these names in a new folder."""
    folder.mkdir(parents=True)
    return {name: Pipe(folder / name) for name in ("stdout", "stderr", "trace")}


class Child:
    """A process that runs forebear, and leads a group of its own."""

    def __init__(
        self, number: int, pipes: Mapping[str, Pipe], ended: Callable[[], tuple[int, float] | None]
    ) -> None:
        """Takes a process over.

        Args:
            number: Of the process.
            pipes: stdout, stderr and trace; the last is that of a child of the zygote.
            ended: Returns its wait status and its peak memory in MiB, or None while it runs.
        """
        self.number, self._pipes, self._ended = number, pipes, ended
        self.started = time.monotonic()
        self.outcome: Outcome | None = None

    def running(self) -> bool:
        """Whether it has not ended."""
        return self.outcome is None and self._look() is None

    def wait(self, seconds: float = LONGEST) -> Outcome:
        """Waits for the end; a process that is out of time is killed."""
        until = time.monotonic() + seconds
        while self._look() is None and time.monotonic() < until:
            time.sleep(0.002)
        if self.outcome is None:
            self.kill()
            assert self.outcome is not None
            self.outcome = replace(self.outcome, code=None)
        assert self.outcome is not None
        return self.outcome

    def kill(self) -> None:
        """Ends it with all that it has started, and waits until it is gone."""
        for number in (*descendants(self.number), self.number):
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
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
        return self._read("trace").splitlines()

    def said(self) -> str:
        """What it has written to stderr so far."""
        return self._read("stderr")

    def _read(self, name: str) -> str:
        return self._pipes[name].text() if self.outcome is None else self._texts[name]

    def _look(self) -> Outcome | None:
        if self.outcome is None:
            found = self._ended()
            if found is not None:
                self._end(os.waitstatus_to_exitcode(found[0]), found[1])
        return self.outcome

    def _end(self, code: int | None, peak: float) -> None:
        seconds = time.monotonic() - self.started
        self._texts = {name: pipe.text() for name, pipe in self._pipes.items()}
        for pipe in self._pipes.values():
            pipe.close()
        self.outcome = Outcome(code, self._texts["stdout"], self._texts["stderr"], seconds, peak)


def descendants(number: int) -> list[int]:
    """Returns the processes that a process has started, and those that these have started."""
    found = []
    with suppress(OSError):  # it has ended
        for task in Path(f"/proc/{number}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [*descendants(child), child]
    return found


_started: list[Child] = []  # by `start`


def end_all() -> None:
    """Kills what `start` has started and is still running, as a failed test leaves it."""
    while _started:
        child = _started.pop()
        if child.running():
            child.kill()


def start(
    *words: object,
    folder: Path,
    memory_bytes: int | None = MEMORY,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    program: Sequence[str] = PROGRAM,
) -> Child:
    """Starts the real command.

    Args:
        words: Its arguments.
        folder: For its pipes; made here.
        memory_bytes: Of address space that it may take beyond torch's; None: any.
        env: Variables beside those of this process.
        cwd: Its working folder.
        program: What is run, such as torchrun.
    """
    made = pipes(folder)
    most = 0 if memory_bytes is None else imported_bytes() + memory_bytes  # before it starts
    with (
        (folder / "stdout").open("wb") as out,
        (folder / "stderr").open("wb") as err,
        in_the_foreground(),
    ):
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
            resource.prlimit(process.pid, resource.RLIMIT_AS, (most, most))

    def ended() -> tuple[int, float] | None:
        number, status, used = os.wait4(process.pid, os.WNOHANG)
        if number == 0:
            return None
        process.returncode = os.waitstatus_to_exitcode(status)  # so that Popen does not wait too
        return status, used.ru_maxrss / 1024

    child = Child(process.pid, made, ended)
    _started.append(child)
    return child


def address_space() -> int:
    """Returns the bytes of address space that this process takes."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()


@cache
def imported_bytes() -> int:
    """Returns the bytes of address space of a process that has imported torch and forebear."""
    code = (
        "import torch._dynamo, forebear.tasks.train.api\n"
        "from tests.faults.harness import address_space\n"
        "print(address_space())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return int(done.stdout)


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
