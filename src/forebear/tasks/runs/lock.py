"""The lock of a run folder: one process at a time works in it."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from forebear.errors import RunError
from forebear.files import NO_LOCKS, process_lock
from forebear.tasks.runs.layout import FOLDERS, LOCK, METRICS, NAMES
from forebear.text import printable
from forebear.untrusted import kind_of, read_bytes

_LONGEST = 64  # bytes of a lock file
LEAVING = 0.2  # seconds to wait for a lock: its owner may be about to release it


class FolderLock:
    """The lock of one run folder, and the number of the process that holds it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / LOCK
        self._lock: FileLock | None = None

    def acquire(self) -> None:
        """Takes the lock until `release`, or until this process ends, however it ends.

        On a file system without locks, this does nothing.

        Raises:
            RunError: Another process works in the folder.
        """
        refuse_links(self._folder)
        lock = process_lock(self._file, wait=LEAVING)
        try:
            lock.acquire()
        except Timeout:
            raise RunError(
                f"{self._folder}: process {self._owner()} is training here. Expected a folder of "
                "this run's own. Wait for it, stop it, or pass another --out."
            ) from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            return
        self._lock = lock
        with suppress(OSError):  # the number only makes the message of other processes clearer
            self._write_owner()

    def release(self) -> None:
        """Releases the lock and deletes its file; other processes can then use the folder."""
        if self._lock is not None:
            with suppress(PermissionError):  # Windows does not delete a file that is open
                self._file.unlink(missing_ok=True)
            self._lock.release()
            self._lock = None

    def _write_owner(self) -> None:
        flags = os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        with os.fdopen(os.open(self._file, flags), "w", encoding="ascii") as file:
            if _is_sole(os.fstat(file.fileno())):
                file.truncate()
                file.write(f"{os.getpid()}\n")

    def _owner(self) -> str:
        """The number of the process that holds the lock, or "unknown"."""
        with suppress(OSError):
            text = read_bytes(self._file, most=_LONGEST, follow=False).decode(errors="replace")
            return printable(text.strip()) or "unknown"
        return "unknown"


def refuse_links(folder: Path) -> None:
    """Refuses a run folder in which a file of a run is a link or is no regular file.

    A run folder can come from somebody else. Writing through a link in it would change or delete
    files elsewhere.

    Raises:
        RunError: There is such a file; the message names it.
    """
    if not folder.is_dir():
        return
    for name in sorted(NAMES):
        path = folder / name
        try:
            state = path.lstat()
        except OSError:
            continue
        if stat.S_ISLNK(state.st_mode):
            raise _not_ours(path, "a link", "the file itself")
        wanted, fits = (
            ("a folder", stat.S_ISDIR(state.st_mode))
            if name in FOLDERS
            else ("a file", stat.S_ISREG(state.st_mode))
        )
        if not fits:
            raise _not_ours(path, kind_of(state.st_mode), wanted)
        if name in (LOCK, METRICS) and not _is_sole(state):
            raise _not_ours(path, "a hard link to a file that has other names", "a file of its own")


def _is_sole(state: os.stat_result) -> bool:
    """Whether a regular file has no other name, under which it would be changed too."""
    return stat.S_ISREG(state.st_mode) and state.st_nlink == 1


def _not_ours(path: Path, found: str, wanted: str) -> RunError:
    return RunError(
        f"{printable(path)}: {found}. Expected {wanted}, as forebear writes it. Do not trust this "
        "folder: check what it contains, and copy what you need to a new one."
    )
