"""Protects existing files from being overwritten unless the caller allows it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from forebear.errors import WeightsError
from forebear.files import write_whole


def write_new(path: Path, write: Callable[[Path], None], *, replace: bool) -> None:
    """Writes a file with `write`, atomically.

    Raises:
        WeightsError: The file exists and `replace` is not set, or it cannot be written.
    """
    if path.exists() and not replace:
        raise WeightsError(
            f"{path}: this file already exists. Expected a path that does not exist. Pass another "
            "path, or replace=True."
        )
    try:
        write_whole(path, write)
    except (OSError, RuntimeError) as error:  # torch raises only the latter
        raise WeightsError(
            f"{path}: the file cannot be written ({error}). Expected a writable folder with free "
            "space. Pass another path."
        ) from error
