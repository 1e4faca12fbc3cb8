"""An on-disk cache of decoded images, for later runs and for data sets larger than memory.

Each cached data set is two files in the cache folder: NAME.pixels, the raw array, and NAME.json
with its shape, its checksum and the skipped images. The .json is written last, and an entry
without it is ignored. The decoder computes NAME.
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

from forebear.files import cache_folder, is_own, make_private, own_text, write_text, write_whole
from forebear.untrusted import parse_json

Pixels = NDArray[np.uint8] | NDArray[np.float32]

MOST = 20 * 2**30  # bytes of the whole cache
SHARE = 0.5  # fraction of the free disk space that a new entry may take
_ABANDONED = 3600.0  # seconds after which a temporary file is taken to be left by a dead process
_CHUNK = 2**24  # bytes per read
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PixelCache:
    """The cache entry of one decoded data set."""

    name: str  # file name stem: equal only for equal images and geometry
    shape: tuple[int, ...]  # [N, H, W, C]
    dtype: np.dtype[Any]  # uint8 or float32
    most: int | None = None  # bytes of the whole cache; None: MOST, and SHARE of the free space

    @property
    def size(self) -> int:
        """Size of the array in bytes."""
        return self.dtype.itemsize * int(np.prod(self.shape, dtype=np.int64))

    @property
    def pixels(self) -> Path:
        """Path of the array file."""
        return cache_folder() / f"{self.name}.pixels"

    @property
    def note(self) -> Path:
        """Path of the JSON file that describes the array."""
        return cache_folder() / f"{self.name}.json"

    def has_like(self) -> bool:
        """Returns whether the cache has an entry of this shape and dtype, under any name."""
        for note in cache_folder().glob("*.json"):
            with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                entry = parse_json(own_text(note))
                if (tuple(entry["shape"]), entry["dtype"]) == (self.shape, self.dtype.name):
                    return True
        return False

    def load(self) -> tuple[Pixels, dict[int, str]] | None:
        """Returns the memory-mapped pixels and the skipped images, or None on a cache miss.

        Every byte is read once to verify the checksum. A damaged entry is deleted and counts as a
        miss. Processes on the same machine share the mapped memory.
        """
        if not os.path.lexists(self.note):
            return None
        try:
            found = self._load()
            os.utime(self.note)  # the least recently used entries are deleted first
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            _log.warning("cache of decoded images %s: %s; decoding again", self.pixels, error)
            self.remove()
            return None
        return found

    def save(self, parts: Iterable[Pixels], skipped: Mapping[int, str]) -> bool:
        """Writes the entry, and returns whether it was written.

        Args:
            parts: The array in pieces, in order. It is not iterated if there is no room on disk.
            skipped: Maps each image that is not in the array to the reason. It is read after the
                last part.
        """
        try:
            make_private(self.note.parent)
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
                "decoded images were not cached in %s (%s); continuing without the cache",
                self.note.parent,
                error.strerror or error,
            )
            self.remove()
            return False
        return True

    def remove(self) -> None:
        """Deletes both files if they exist."""
        for path in (self.note, self.pixels):
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def _load(self) -> tuple[Pixels, dict[int, str]]:
        note = parse_json(own_text(self.note))
        if not is_own(self.pixels):
            raise ValueError("its file is missing, a link, or a file of another user")
        if (tuple(note["shape"]), note["dtype"]) != (self.shape, self.dtype.name):
            raise ValueError("the shape or dtype does not match")
        if self.pixels.stat().st_size != self.size:
            raise ValueError("the file has the wrong size")
        mapped: Pixels = np.memmap(self.pixels, self.dtype, "r", shape=self.shape)
        if _checksum(mapped) != note["crc32c"]:
            raise ValueError("the checksum is wrong")
        skipped = {int(index): str(why) for index, why in note["skipped"].items()}
        return mapped, skipped

    def _make_room(self) -> bool:
        """Deletes leftovers of dead processes and, as needed, the least recently used entries.

        Returns:
            Whether the new entry fits.
        """
        folder = self.note.parent
        for path in folder.glob(".*.tmp*"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _ABANDONED:
                    path.unlink()
        free = shutil.disk_usage(folder).free
        most = MOST if self.most is None else self.most
        if self.size > min(most, free if self.most is not None else int(SHARE * free)):
            _log.info(
                "decoded images are not cached: %.1f GiB needed, %.1f GiB free on %s",
                self.size / 2**30,
                free / 2**30,
                folder,
            )
            return False
        sets = sorted(filter(is_own, folder.glob("*.pixels")), key=_last_used)
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
    """Returns the CRC-32C of all bytes, read in pieces because the array may exceed memory."""
    checksum, flat = 0, _bytes(pixels)
    for start in range(0, flat.size, _CHUNK):
        checksum = google_crc32c.extend(checksum, flat[start : start + _CHUNK])
    return checksum


def _bytes(pixels: Pixels) -> NDArray[np.uint8]:
    """Returns a flat byte view of the array, without a copy if it is contiguous."""
    return np.ascontiguousarray(pixels).view(np.uint8).reshape(-1)
