"""Child processes forked off a process that has imported a peer, so that each starts in no time."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LONGEST = 120.0  # seconds that a child may take


@dataclass(frozen=True, slots=True)
class Limits:
    """What a child may not do."""

    file_size: int | None = None  # bytes
    memory: int | None = None  # bytes of address space
    plain_user: bool = False  # without root's right to write to a read-only folder


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended."""

    code: int  # negative: the signal that killed it
    log: str
    seconds: float
    peak_mb: float = 0.0
    timed_out: bool = False

    @property
    def last_line(self) -> str:
        """The line that a user would read first: the exception, or else the last one."""
        lines = [line.strip() for line in self.log.splitlines() if line.strip()]
        errors = [line for line in lines if "Error" in line.split(":")[0] and ": " in line]
        return (errors or lines or [""])[-1][:300]

    @property
    def short(self) -> str:
        """The last line, cut for a table."""
        line = self.last_line
        return line if len(line) <= 90 else line[:89] + "…"


class Child:
    """A child that runs a function, with its output in a file."""

    def __init__(self, work: Callable[[], int | None], log: Path, limits: Limits) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self.log, self.started, self.peak_mb = log, time.perf_counter(), 0.0
        self.ended: int | None = None
        log.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        self.pid = os.fork()
        if self.pid == 0:
            _run(work, file, limits)
        os.close(file)

    def poll(self) -> int | None:
        if self.ended is None:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self.ended = os.waitstatus_to_exitcode(status)
                self.peak_mb = usage.ru_maxrss / 1024
        return self.ended

    def text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait(self, seconds: float = LONGEST) -> Ended:
        """Waits for the end; kills the child's whole session when the time is up."""
        until = time.perf_counter() + seconds
        while self.poll() is None and time.perf_counter() < until:
            time.sleep(0.005)
        late = self.poll() is None
        if late:
            self.kill_all()
        took = time.perf_counter() - self.started
        assert self.ended is not None
        return Ended(self.ended, self.text(), took, self.peak_mb, late)

    def kill_all(self) -> None:
        """Ends the child and whatever it started."""
        for pid in [*descendants(self.pid), self.pid]:
            with _gone():
                os.kill(pid, signal.SIGKILL)
        while self.poll() is None:
            time.sleep(0.005)

    def until(self, ready: Callable[[], bool], seconds: float = LONGEST) -> bool:
        """Waits for a condition; False if the child ended or the time was up first."""
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            if ready():
                return True
            if self.poll() is not None:
                return ready()
            time.sleep(0.001)
        return False


class _gone:  # noqa: N801  reads as a statement
    """Ignores that a process has ended already."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not None and issubclass(kind, ProcessLookupError)


def descendants(pid: int) -> list[int]:
    """All processes that descend from `pid`, the deepest first."""
    found: list[int] = []
    try:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        for task in list(tasks):
            for child in (task / "children").read_text().split():
                found += [*descendants(int(child)), int(child)]
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def _run(work: Callable[[], int | None], file: int, limits: Limits) -> None:
    code = 70
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.stdout = os.fdopen(1, "w", buffering=1, encoding="utf-8", errors="surrogateescape")
        sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8", errors="surrogateescape")
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if limits.file_size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limits.file_size,) * 2)
        if limits.memory is not None:
            resource.setrlimit(resource.RLIMIT_AS, (limits.memory,) * 2)
        if limits.plain_user:
            _give_up_rights()
        code = work() or 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt:
        traceback.print_exc()
        code = 130
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        _leave(code)


def _give_up_rights() -> None:
    """Gives up root's right to pass over the modes of files; stays the user that it is."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    held = (ctypes.c_uint32 * 6)()
    if libc.capget(header, held) == 0:
        for number in (0, 1):  # effective, permitted: CAP_DAC_OVERRIDE, _READ_SEARCH, CAP_FOWNER
            held[number] &= ~0b1110
        libc.capset(header, held)


def _leave(code: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            code = code or 120
    for child in descendants(os.getpid()):  # data loaders' workers
        with _gone():
            os.kill(child, signal.SIGKILL)
    os._exit(code)


def ask(work: Callable[[], Any], *, limits: Limits | None = None) -> tuple[Any, Ended]:
    """What a function returns in a child of its own (None if it raised or died), and the end."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder, "answer.json")
        Path(folder).chmod(0o777)

        def write() -> None:
            answer.write_text(json.dumps(work()))

        ended = Child(write, Path(folder, "log"), limits or Limits()).wait()
        return (json.loads(answer.read_text()) if answer.exists() else None), ended


def run_script(script: Path, words: Sequence[str], before: Callable[[], None] | None = None) -> int:
    """Runs a script of somebody else as `python script words` would. Called in a child."""
    import runpy

    sys.argv = [str(script), *words]
    sys.path.insert(0, str(script.parent))
    if before is not None:
        before()
    runpy.run_path(str(script), run_name="__main__")
    return 0
