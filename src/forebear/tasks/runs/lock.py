"""The lock of a run folder: one process at a time works in it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from forebear.errors import RunError
from forebear.files import NO_LOCKS, process_lock
from forebear.tasks.runs.layout import LOCK

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
            self._file.write_text(f"{os.getpid()}\n", encoding="ascii")

    def release(self) -> None:
        """Releases the lock and deletes its file; other processes can then use the folder."""
        if self._lock is not None:
            with suppress(PermissionError):  # Windows does not delete a file that is open
                self._file.unlink(missing_ok=True)
            self._lock.release()
            self._lock = None

    def _owner(self) -> str:
        """The number of the process that holds the lock, or "unknown"."""
        with suppress(OSError):
            return self._file.read_bytes()[:20].decode(errors="replace").strip() or "unknown"
        return "unknown"
