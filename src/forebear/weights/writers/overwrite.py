"""Where a file may be written: not over another one unless asked to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from forebear.errors import WeightsError
from forebear.files import write_whole


def write_new(path: Path, write: Callable[[Path], None], *, replace: bool) -> None:
    """Lets `write` fill a file that appears whole at `path`, or not at all.

    Raises:
        WeightsError: there is one and `replace` is not set, or it cannot be written.
    """
    if path.exists() and not replace:
        raise WeightsError(
            f"{path}: there is such a file. Expected a new name. Pass another, or allow replacing."
        )
    try:
        write_whole(path, write)
    except (OSError, RuntimeError) as error:  # torch has only the latter
        raise WeightsError(
            f"{path}: cannot be written ({error}). Expected a folder that can "
            "be written, with room. Pass another path."
        ) from error
