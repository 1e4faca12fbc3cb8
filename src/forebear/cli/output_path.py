"""Checks the output path of a plot before the work begins, so that an error costs no time."""

from __future__ import annotations

from pathlib import Path


def check_drawing(path: Path | None) -> None:
    """Checks that `path` is a .png file in an existing folder; None passes.

    Raises:
        ValueError: The suffix is not .png, or the folder does not exist.
    """
    if path is None:
        return
    if path.suffix.lower() != ".png":
        raise ValueError(
            f"{path}: the suffix is {path.suffix or 'missing'}. Expected .png. "
            f"Pass {path.stem}.png."
        )
    if not path.parent.is_dir():
        raise ValueError(
            f"{path}: there is no folder {path.parent}. Expected an existing folder. "
            "Create it first."
        )
