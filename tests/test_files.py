from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import Timeout

from forebear.files import (
    NO_LOCKS,
    expanded,
    is_own,
    make_private,
    own_text,
    process_lock,
    write_text,
    write_whole,
)


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


def test_a_file_of_a_cache_is_believed_only_if_it_is_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("x")
    assert is_own(path)
    assert own_text(path) == "x"
    (tmp_path / "link").symlink_to("a")
    path.chmod(0o666)  # others may write it
    for odd in (path, tmp_path / "link", tmp_path / "gone", tmp_path):
        assert not is_own(odd)
        with pytest.raises(OSError, match="it is missing, a link, or a file of another user"):
            own_text(odd)


def test_a_new_folder_of_a_cache_is_private(tmp_path: Path) -> None:
    make_private(tmp_path / "a")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700


def test_a_link_that_waits_for_a_write_is_not_followed(tmp_path: Path) -> None:
    seen: list[str] = []

    def write(partial: Path) -> None:
        seen.append(partial.name)
        partial.write_text("x")

    for _ in range(2):
        write_whole(tmp_path / "file", write)
    assert seen[0] != seen[1]  # nobody can put a link where the next write goes
    assert all(name.startswith(".file.") for name in seen)


def test_an_unknown_home_folder_is_one_line() -> None:
    assert expanded("~/x") == Path.home() / "x"
    with pytest.raises(ValueError, match="~nobody-there/x: the home folder is unknown"):
        expanded("~nobody-there/x")
