"""Atomic file writes (to a temporary file in the same folder, flushed, then renamed), and locks."""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from forebear.limits import TEXT_BYTES
from forebear.text import printable
from forebear.untrusted import read_bytes

if TYPE_CHECKING:
    from filelock import FileLock

# What the operating system reports if a file system has no locks.
NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL})


def home() -> Path:
    """Returns $FOREBEAR_HOME (default: ~/.cache/forebear), the folder of downloads and caches."""
    return expanded(os.environ.get("FOREBEAR_HOME") or "~/.cache/forebear")


def expanded(path: str | Path) -> Path:
    """Returns a path whose ~ or ~NAME is replaced by a home folder.

    Raises:
        ValueError: The system does not know that home folder.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ValueError(
            f"{printable(path)}: the home folder is unknown. Expected a path without ~, or a "
            "known user after it. Write the whole path, or set HOME."
        ) from None


def cache_folder() -> Path:
    """Returns $FOREBEAR_HOME/cache (default: ~/.cache/forebear/cache). It may not exist yet."""
    return home() / "cache"


def make_private(folder: Path) -> None:
    """Makes a folder, and those above it, that only this user can write to.

    Raises:
        OSError: It cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)


def is_own(path: Path) -> bool:
    """Whether a file of a cache is a regular file of this user or of root, and no link.

    A cache on a shared disk may contain files of others, who could choose what they say.
    """
    try:
        state = path.lstat()
    except OSError:
        return False
    mine = not hasattr(os, "getuid") or state.st_uid in (os.getuid(), 0)
    return mine and stat.S_ISREG(state.st_mode) and not state.st_mode & stat.S_IWOTH


def own_text(path: Path, *, most: int = TEXT_BYTES) -> str:
    """Returns the content of a UTF-8 file of a cache.

    Raises:
        OSError: It is missing, too large, a link, or a file of another user.
        ValueError: The content is not UTF-8.
    """
    if not is_own(path):
        raise OSError(errno.EPERM, "it is missing, a link, or a file of another user", str(path))
    return read_bytes(path, most=most, follow=False).decode("utf-8")


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Calls `write` on a temporary file in the same folder, then renames that file to `path`.

    After any failure, `path` has either its old content or all of the new content.

    Args:
        path: File to create or replace.
        write: Writes the content to the path that it is given.

    Raises:
        OSError: The disk is full, the folder is not writable, or `path` is not a regular file.
            Renaming would replace a device such as /dev/null by a file.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    # Nobody can guess the name, and put a link there that the write would follow.
    partial = path.with_name(f".{path.name[:200]}.{secrets.token_hex(8)}.tmp{path.suffix}")
    try:
        write(partial)
        partial.chmod(0o644)  # safetensors creates its files with mode 0600
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
    from filelock import FileLock  # an import of 5 ms

    return FileLock(path, timeout=wait, thread_local=False, fallback_to_soft=False)


def _as_os_error(error: Exception, path: Path) -> Exception:
    """Converts safetensors' own exception (version 0.8), "... full (os error 28)", to OSError."""
    number = re.search(r"\(os error (\d+)\)", str(error))
    if number is None or isinstance(error, OSError):
        return error
    return OSError(int(number[1]), os.strerror(int(number[1])), str(path))


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file atomically."""

    def write(partial: Path) -> None:
        partial.write_text(text, encoding="utf-8")

    write_whole(path, write)


def _flush_folder(folder: Path) -> None:
    """Flushes the folder to disk, so that the rename survives a crash."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
