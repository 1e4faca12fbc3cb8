"""Files that are whole or not there (written beside their place, flushed, renamed), and locks."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

# What the operating system reports if a file system has no locks.
NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL})


def home() -> Path:
    """$FOREBEAR_HOME (default: ~/.cache/forebear): what can be fetched or made again lies there."""
    return Path(os.environ.get("FOREBEAR_HOME") or "~/.cache/forebear").expanduser()


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Lets `write` fill a new file in the same folder, then puts it in `path`'s place at once.

    Whatever happens, `path` holds its old contents or all of the new ones.

    Raises:
        OSError: the disk is full, the folder cannot be written to, or `path` is something that is
            no file, such as /dev/null: renaming would do away with it.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp{path.suffix}")
    try:
        write(partial)
        partial.chmod(0o644)  # safetensors makes its files private
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except Exception as error:
        raise _as_os_error(error, path) from error
    finally:
        partial.unlink(missing_ok=True)
    _flush_folder(path.parent)


def process_lock(path: Path, *, wait: float = -1) -> FileLock:
    """A lock that one process at a time can hold; the system releases it when the process ends.

    Nothing that a killed process leaves behind can block another one: the file may stay, the lock
    does not. A file system without locks raises an OSError instead of taking a file for a lock.

    Args:
        path: of the file that is locked; it is made if it is missing.
        wait: seconds after which `acquire` raises `filelock.Timeout`; -1 waits without end.
    """
    return FileLock(path, timeout=wait, thread_local=False, fallback_to_soft=False)


def _as_os_error(error: Exception, path: Path) -> Exception:
    """An OSError for what safetensors (0.8) raises of its own: "... full (os error 28)"."""
    number = re.search(r"\(os error (\d+)\)", str(error))
    if number is None or isinstance(error, OSError):
        return error
    return OSError(int(number[1]), os.strerror(int(number[1])), str(path))


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole."""

    def write(partial: Path) -> None:
        partial.write_text(text, encoding="utf-8")

    write_whole(path, write)


def _flush_folder(folder: Path) -> None:
    """Makes the renaming itself last."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
