from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import Timeout

from forebear.files import NO_LOCKS, process_lock, write_text


def test_a_file_is_replaced_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    write_text(path, "new")
    assert path.read_text() == "new"
    assert [one.name for one in tmp_path.iterdir()] == ["a.txt"]


def test_what_is_no_file_is_never_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path):
        with pytest.raises(OSError, match="not a regular file"):
            write_text(path, "text")
    assert pipe.is_fifo()
    assert [one.name for one in tmp_path.iterdir()] == ["pipe"]


def test_a_lock_ends_with_its_process_though_the_file_stays(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    program = (
        "import sys\nfrom pathlib import Path\nfrom forebear.files import process_lock\n"
        "lock = process_lock(Path(sys.argv[1]))\nlock.acquire()\n"
        "print('held', flush=True)\nsys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(Timeout):
            process_lock(path, wait=0).acquire()
        other.kill()
    assert path.exists()
    with process_lock(path, wait=1):
        pass


def test_a_file_system_without_locks_is_told_and_no_file_taken_for_a_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def flock(handle: int, how: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSYS)) as raised:
        process_lock(tmp_path / ".lock").acquire()
    assert raised.value.errno in NO_LOCKS
