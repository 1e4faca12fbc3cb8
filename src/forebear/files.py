"""Atomic file writes: to a temporary file in the same folder, flushed, then renamed."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path


def home() -> Path:
    """Returns $FOREBEAR_HOME (default: ~/.cache/forebear), the folder of downloads and caches."""
    return Path(os.environ.get("FOREBEAR_HOME") or "~/.cache/forebear").expanduser()


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
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp{path.suffix}")
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
