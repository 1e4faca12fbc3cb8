"""Decoded pictures on disk, for the next run, and for sets that memory does not hold.

Each set is two files in the cache folder: NAME.pixels, the bare array, and NAME.json with its
shape, its checksum and the pictures that are not in it. The .json is written last: without it the
set does not count. Which sets share a name is left to the store.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from forebear.data.home import cache_folder
from forebear.files import write_text, write_whole

Pixels = NDArray[np.uint8] | NDArray[np.float32]

MOST = 20 * 2**30  # bytes of all sets together
SHARE = 0.5  # of what is free on the disk, that a new set may take
_ABANDONED = 3600.0  # seconds after which an unfinished file is one of a process that died
_CHUNK = 2**24  # bytes read at a time
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PixelCache:
    """The place of one decoded set."""

    name: str  # of its files: equal for equal pictures and geometry alone
    shape: tuple[int, ...]  # [N, size, size, C]
    dtype: np.dtype[Any]  # uint8 or float32
    most: int | None = None  # bytes of all sets together; None: MOST, and SHARE of what is free

    @property
    def size(self) -> int:
        """Bytes of the set."""
        return self.dtype.itemsize * int(np.prod(self.shape, dtype=np.int64))

    @property
    def pixels(self) -> Path:
        """The file of the array."""
        return cache_folder() / f"{self.name}.pixels"

    @property
    def note(self) -> Path:
        """The file that describes it."""
        return cache_folder() / f"{self.name}.json"

    def has_like(self) -> bool:
        """Whether any set of this shape and dtype is there, under whichever name."""
        for note in cache_folder().glob("*.json"):
            with suppress(OSError, ValueError, KeyError, TypeError):
                told = json.loads(note.read_text(encoding="utf-8"))
                if (tuple(told["shape"]), told["dtype"]) == (self.shape, self.dtype.name):
                    return True
        return False

    def load(self) -> tuple[Pixels, dict[int, str]] | None:
        """The pixels, mapped, and the pictures skipped; None where there is no whole set.

        A damaged set is removed. Every byte is read once, to hold it to its checksum. Processes of
        one machine share what is mapped.
        """
        if not self.note.is_file():
            return None
        try:
            found = self._load()
            os.utime(self.note)  # the sets that were used last stay longest
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            _log.warning("decoded pictures in %s: %s; they are decoded again", self.pixels, error)
            self.remove()
            return None
        return found

    def save(self, parts: Iterable[Pixels], skipped: Mapping[int, str]) -> bool:
        """Writes a set, and says whether it is there.

        Args:
            parts: The array in pieces, in order. They are not asked for where there is no room.
            skipped: Pictures that are not in it, and why; looked at after the last part.
        """
        try:
            self.note.parent.mkdir(parents=True, exist_ok=True)
            if not self._make_room():
                return False
            checksum = 0

            def write(partial: Path) -> None:
                nonlocal checksum
                with partial.open("wb") as file:
                    for part in parts:
                        content = _bytes(part)
                        checksum = google_crc32c.extend(checksum, content)
                        file.write(content.data)

            write_whole(self.pixels, write)
            described = {
                "shape": self.shape,
                "dtype": self.dtype.name,
                "crc32c": checksum,
                "skipped": {str(index): why for index, why in sorted(skipped.items())},
            }
            write_text(self.note, json.dumps(described))
        except OSError as error:
            _log.warning(
                "decoded pictures were not kept in %s (%s); the run goes on without",
                self.note.parent,
                error.strerror or error,
            )
            self.remove()
            return False
        return True

    def remove(self) -> None:
        """Removes both files, as far as they are there."""
        for path in (self.note, self.pixels):
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def _load(self) -> tuple[Pixels, dict[int, str]]:
        note = json.loads(self.note.read_text(encoding="utf-8"))
        if (tuple(note["shape"]), note["dtype"]) != (self.shape, self.dtype.name):
            raise ValueError("described as another set")
        if self.pixels.stat().st_size != self.size:
            raise ValueError("cut short")
        mapped: Pixels = np.memmap(self.pixels, self.dtype, "r", shape=self.shape)
        if _checksum(mapped) != note["crc32c"]:
            raise ValueError("the checksum is wrong")
        skipped = {int(index): str(why) for index, why in note["skipped"].items()}
        return mapped, skipped

    def _make_room(self) -> bool:
        """Removes what dead processes left and, as needed, the sets that lay idle for longest."""
        folder = self.note.parent
        for path in folder.glob(".*.tmp*"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _ABANDONED:
                    path.unlink()
        free = shutil.disk_usage(folder).free
        most = MOST if self.most is None else self.most
        if self.size > min(most, free if self.most is not None else int(SHARE * free)):
            _log.info(
                "decoded pictures are not kept: %.1f GiB, with %.1f GiB free on %s",
                self.size / 2**30,
                free / 2**30,
                folder,
            )
            return False
        sets = sorted(folder.glob("*.pixels"), key=_last_used)
        taken = sum(path.stat().st_size for path in sets)
        for path in sets:
            if taken + self.size <= most:
                break
            taken -= path.stat().st_size
            path.with_suffix(".json").unlink(missing_ok=True)
            path.unlink()
        return True


def _last_used(pixels: Path) -> float:
    note = pixels.with_suffix(".json")
    return note.stat().st_mtime if note.is_file() else 0.0


def _checksum(pixels: Pixels) -> int:
    """The CRC-32C of all bytes, a piece at a time, as the whole may not fit in memory."""
    checksum, flat = 0, _bytes(pixels)
    for start in range(0, flat.size, _CHUNK):
        checksum = google_crc32c.extend(checksum, flat[start : start + _CHUNK])
    return checksum


def _bytes(pixels: Pixels) -> NDArray[np.uint8]:
    """The same memory as bytes in one row."""
    return np.ascontiguousarray(pixels).view(np.uint8).reshape(-1)
