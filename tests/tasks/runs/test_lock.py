"""The lock of a run folder."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from forebear.errors import RunError
from forebear.files import process_lock
from forebear.tasks.runs import lock as module
from forebear.tasks.runs.layout import LOCK
from forebear.tasks.runs.lock import FolderLock

HOLD = """
import sys
from forebear.files import process_lock
from pathlib import Path
lock = process_lock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_the_file_has_the_number_of_its_process_and_goes_with_the_lock(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    lock.release()  # nothing is held
    lock.acquire()
    assert (tmp_path / LOCK).read_text() == f"{os.getpid()}\n"
    lock.release()
    assert not (tmp_path / LOCK).exists()
    lock.acquire()
    lock.release()


@pytest.mark.parametrize(("content", "owner"), [(b"1234\n", "1234"), (b"", "unknown")])
def test_a_lock_that_another_process_holds_is_refused_with_its_number(
    content: bytes, owner: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / LOCK)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        try:
            (tmp_path / LOCK).write_bytes(content)
            lock = FolderLock(tmp_path)
            with pytest.raises(RunError, match=f"^{tmp_path}: process {owner} .* Expected .*--out"):
                lock.acquire()
            lock.release()  # it was never held
            assert (tmp_path / LOCK).read_bytes() == content
        finally:
            other.kill()
    free = FolderLock(tmp_path)
    free.acquire()  # the system released what a killed process held
    free.release()


@pytest.mark.parametrize(("number", "passes"), [(errno.ENOSYS, True), (errno.EACCES, False)])
def test_a_file_system_without_locks_is_used_without_one(
    number: int, passes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise OSError(number, os.strerror(number))

    made = process_lock(tmp_path / LOCK)
    monkeypatch.setattr(made, "acquire", refuse)
    monkeypatch.setattr(module, "process_lock", lambda *_, **__: made)
    lock = FolderLock(tmp_path)
    if passes:
        lock.acquire()
        lock.release()
    else:
        with pytest.raises(OSError, match="Permission denied"):
            lock.acquire()
    assert not (tmp_path / LOCK).exists()


@pytest.mark.parametrize("name", [".lock", "metrics.jsonl", "settings.json", "index.html"])
def test_a_link_in_the_folder_is_refused_and_its_target_is_untouched(
    name: str, tmp_path: Path
) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"kept")
    run = tmp_path / "run"
    run.mkdir()
    (run / name).symlink_to(precious)
    with pytest.raises(RunError, match=rf"{name}: a link\. Expected the file itself"):
        FolderLock(run).acquire()
    assert precious.read_bytes() == b"kept"


@pytest.mark.parametrize("name", [".lock", "metrics.jsonl"])
def test_a_hard_link_is_refused_where_a_file_is_changed_in_place(name: str, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"kept")
    run = tmp_path / "run"
    run.mkdir()
    os.link(precious, run / name)
    with pytest.raises(RunError, match=f"{name}: a hard link to a file that has other names"):
        FolderLock(run).acquire()
    assert precious.read_bytes() == b"kept"


def test_links_to_folders_and_special_files_are_refused(tmp_path: Path) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    run.mkdir()
    other.mkdir()
    for name, make, said in (
        ("checkpoints", lambda path: path.symlink_to(other), "a link"),
        ("tensorboard", lambda path: path.symlink_to(other), "a link"),
        ("mlflow", lambda path: path.symlink_to(other), "a link"),
        ("wandb", lambda path: path.symlink_to(other), "a link"),
        ("trackio", lambda path: path.symlink_to(other), "a link"),
        ("tracking.json", lambda path: path.symlink_to(other), "a link"),
        ("checkpoints", lambda path: path.touch(), "a special file. Expected a folder"),
        (".lock", os.mkfifo, "a pipe. Expected a file"),
        ("settings.json", lambda path: path.mkdir(), "a folder. Expected a file"),
    ):
        make(run / name)
        with pytest.raises(RunError, match=f"{name}: {said}"):
            FolderLock(run).acquire()
        path = run / name
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    FolderLock(run).acquire()


def test_a_link_to_the_folder_itself_is_followed(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "latest").symlink_to("run")
    lock = FolderLock(tmp_path / "latest")
    lock.acquire()
    assert (tmp_path / "run" / LOCK).is_file()
    lock.release()
