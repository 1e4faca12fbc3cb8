"""Reads files that somebody else may have written: regular files of limited size and nesting.

A pipe or a device can block a reader or never end, and deeply nested JSON overflows the stack of
its parser. Every reader of settings, tables, recipes, caches and images goes through this module.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from forebear.limits import NESTING, TEXT_BYTES

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)
_TOO_DEEP = f"nested more than {NESTING} levels deep"


@contextmanager
def opened(path: Path, *, most: int | None = None, follow: bool = True) -> Iterator[IO[bytes]]:
    """Opens a regular file for reading.

    Args:
        path: The file.
        most: Largest size in bytes; None for any.
        follow: Whether the last part of the path may be a symbolic link.

    Raises:
        OSError: The file is missing, not a regular file, a link that must not be followed, or
            larger than `most`. `strerror` says which.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    flags |= getattr(os, "O_BINARY", 0)
    if not follow:
        refuse_link(path)
        flags |= getattr(os, "O_NOFOLLOW", 0)
    handle = os.open(path, flags)
    try:
        state = os.fstat(handle)
        if not stat.S_ISREG(state.st_mode):
            raise OSError(errno.EINVAL, f"it is {kind_of(state.st_mode)}, not a file", str(path))
        if most is not None and state.st_size > most:
            reason = f"it has {state.st_size:,} bytes, more than the limit of {most:,}"
            raise OSError(errno.EFBIG, reason, str(path))
    except OSError:
        os.close(handle)
        raise
    with os.fdopen(handle, "rb") as file:
        yield file


def read_bytes(path: Path, *, most: int, follow: bool = True) -> bytes:
    """Returns the content of a regular file of at most `most` bytes.

    Raises:
        OSError: As in `opened`.
    """
    with opened(path, most=most, follow=follow) as file:
        content = file.read(most + 1)
    if len(content) > most:  # it grew, or is a file of /proc that has no size
        raise OSError(errno.EFBIG, f"it has more than {most:,} bytes", str(path))
    return content


def read_text(path: Path, *, most: int = TEXT_BYTES) -> str:
    """Returns the content of a UTF-8 file.

    Raises:
        OSError: As in `opened`.
        ValueError: The content is not UTF-8.
    """
    return read_bytes(path, most=most).decode("utf-8")


def read_json(path: Path, *, most: int = TEXT_BYTES) -> Any:
    """Returns the value of a JSON file.

    Raises:
        OSError: As in `opened`.
        ValueError: The content is not JSON in UTF-8, or it is nested too deeply.
    """
    return parse_json(read_text(path, most=most))


def parse_json(text: str | bytes) -> Any:
    """Returns the value of a JSON text.

    Raises:
        ValueError: The text is not JSON, or it is nested too deeply.
    """
    try:
        return _shallow(json.loads(text))
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


def parse_toml(text: str) -> dict[str, Any]:
    """Returns the values of a TOML text.

    Raises:
        ValueError: The text is not TOML, or it is nested too deeply.
    """
    try:
        data = tomllib.loads(text)
        _shallow(data)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    return data


def refuse_link(path: Path) -> None:
    """Raises OSError if a path is a symbolic link; a missing file passes."""
    if path.is_symlink():
        raise OSError(errno.ELOOP, "it is a link", str(path))


def kind_of(mode: int) -> str:
    """What a file is that is no regular file, with its article: "a pipe"."""
    return next((name for fits, name in _KINDS if fits(mode)), "a special file")


def _shallow(value: Any) -> Any:
    """Returns the value unchanged; raises ValueError if it is nested too deeply."""
    level = [value]
    for _ in range(NESTING):
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return value
    raise ValueError(_TOO_DEEP)
