"""Where a verb is to draw: looked at before the work begins, so that no minutes are lost."""

from __future__ import annotations

from pathlib import Path


def check_drawing(path: Path | None) -> None:
    """Refuses a file that a picture cannot go to; None is none.

    Raises:
        ValueError: another suffix than .png, or a folder that is not there.
    """
    if path is None:
        return
    if path.suffix.lower() != ".png":
        raise ValueError(f"{path}: drawings are .png. Expected such a name. Pass {path.stem}.png.")
    if not path.parent.is_dir():
        raise ValueError(
            f"{path}: there is no folder {path.parent}. Expected one to draw into. Make it first."
        )
