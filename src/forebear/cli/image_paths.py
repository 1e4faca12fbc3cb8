"""Images that the words of a command stand for: files, folders, patterns, or lines of stdin."""

from __future__ import annotations

import glob
import sys
from collections.abc import Iterator
from pathlib import Path

from forebear.text import printable


def images_of(words: list[str], *, recursive: bool) -> Iterator[Path]:
    """Yields the images that the words stand for, in their order."""
    for word in words:
        if word == "-":
            yield from (Path(line.rstrip("\r\n")) for line in sys.stdin if line.strip())
        elif Path(word).is_dir():
            yield from _images_in(Path(word), recursive=recursive)
        elif glob.has_magic(word) and not Path(word).exists():
            yield from _matching(word)
        else:
            yield Path(word)


def _images_in(folder: Path, *, recursive: bool) -> list[Path]:
    from forebear.data.sources.folders import images_below
    from forebear.errors import DataError

    found = [Path(image) for image in images_below(folder)]
    if not recursive:
        found = [image for image in found if image.parent == folder]
    if not found:
        raise DataError(
            f"{printable(folder)}: no images inside. Expected a folder with images. Check the path."
        )
    return found


def _matching(pattern: str) -> list[Path]:
    from forebear.errors import DataError

    matches = glob.glob(pattern, recursive=True)  # noqa: PTH207 (Path.glob wants a folder first)
    found = sorted(path for path in map(Path, matches) if path.is_file())
    if not found:
        raise DataError(
            f"{printable(pattern)}: no file matches. Expected a pattern of image files. Check it."
        )
    return found
