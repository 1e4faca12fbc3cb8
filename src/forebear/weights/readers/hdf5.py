"""HDF5 of which only plain groups, strings and datasets are touched, each checked first.

HDF5 can point out of its file (external and soft links, external storage, virtual datasets), run
filters and hold object types; a file of weights needs none of that.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from forebear.errors import WeightsError
from forebear.weights.readers.arrays import Array
from forebear.weights.readers.refusal import MAX_NAMES, largest_content, reading, refused, shown

SIGNATURE = b"\x89HDF\r\n\x1a\n"
EXPECTED = "an HDF5 file of Keras weights"
_FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32"}  # H5Zpublic.h


def is_hdf5(path: Path) -> bool:
    """Whether the signature stands at 0, 512, 1024, 2048, ..., where HDF5 looks for it."""
    with path.open("rb") as file:
        size, place = path.stat().st_size, 0
        while place < size:
            file.seek(place)
            if file.read(len(SIGNATURE)) == SIGNATURE:
                return True
            place = 2 * place or 512
    return False


def h5py() -> Any:
    """The package h5py, which only Keras files need.

    Raises:
        WeightsError: not installed.
    """
    try:
        return importlib.import_module("h5py")
    except ImportError as error:
        raise WeightsError(
            f"h5py cannot be imported ({error}). Expected it for Keras and HDF5 files. "
            "Run: pip install 'forebear[keras]'"
        ) from error


@dataclass(frozen=True, slots=True)
class Stored:
    """A dataset that may be read."""

    dataset: Any
    shape: tuple[int, ...]
    dtype: np.dtype[Any]  # in which it is given
    bfloat16: bool

    def read(self) -> Array:
        """The whole array, in the machine's byte order."""
        array: Array = self.dataset[()]
        if self.bfloat16:
            wide = np.asarray(array).view(np.uint16).astype(np.uint32) << 16
            return wide.view(np.float32).reshape(self.shape)
        return np.asarray(array, dtype=self.dtype)


class Hdf5:
    """An open file, with the ways in which forebear looks into it."""

    def __init__(self, path: Path, content: IO[bytes] | None = None) -> None:
        """Opens a file for reading.

        Args:
            path: The file, also for messages.
            content: The HDF5 file itself, where `path` is an archive that holds it.
        """
        self.path = path
        self._h5py = h5py()
        with reading(path, EXPECTED):
            self.root = self._h5py.File(content or path, "r")
            self._size = self.root.id.get_filesize()

    def close(self) -> None:
        """Closes the file."""
        self.root.close()

    def child(self, group: Any, name: str) -> Any:
        """The group or dataset at a path below `group`, or None; links out are refused."""
        for part in name.split("/"):
            link = group.get(part, getlink=True) if part and hasattr(group, "keys") else None
            if link is None:
                return None
            if not isinstance(link, self._h5py.HardLink):
                raise refused(
                    self.path,
                    f"{shown(name)}: a {type(link).__name__} to another place",
                    "arrays in the file itself",
                    "Do not trust this file.",
                )
            group = group[part]
        return group

    def children(self, group: Any) -> list[str]:
        """The names in a group."""
        if len(group) > MAX_NAMES:
            raise refused(self.path, f"{shown(group.name)}: {len(group)} members", EXPECTED)
        return list(group)

    def strings(self, group: Any, attribute: str) -> list[str] | None:
        """A list of strings, also where it is split over attributes that end in 0, 1, ..."""
        if attribute in group.attrs:
            return self._strings(group, attribute)
        found: list[str] = []
        part = 0
        while f"{attribute}{part}" in group.attrs:
            found += self._strings(group, f"{attribute}{part}")
            part += 1
        return found if part else None

    def _strings(self, group: Any, attribute: str) -> list[str]:
        described = group.attrs.get_id(attribute)
        if math.prod(described.shape) > MAX_NAMES or described.dtype.kind not in "OSf":
            raise refused(
                self.path,
                f"{shown(group.name)}: {attribute} is {shown(described.dtype)} "
                f"{shown(list(described.shape))}",
                "a list of names",
            )
        values = np.asarray(group.attrs[attribute]).ravel().tolist()
        return [_text(value) for value in values]

    def text(self, group: Any, attribute: str) -> str | None:
        """A single string, or None where there is none."""
        found = self.strings(group, attribute)
        return found[0] if found else None

    def stored(self, dataset: Any, name: str) -> Stored:
        """A dataset once its type, its place and its size are found harmless.

        Raises:
            WeightsError: naming the array.
        """
        if not isinstance(dataset, self._h5py.Dataset):
            raise refused(self.path, f"{shown(name)}: no such dataset", EXPECTED)
        kind, shape = dataset.dtype, dataset.shape
        brain = kind.kind == "V" and kind.itemsize == 2 and kind.names is None
        brain = brain and _text(dataset.attrs.get("dtype", "")) == "bfloat16"
        if (not brain and (kind.kind not in "biuf" or kind.itemsize > 8)) or shape is None:
            raise refused(self.path, f"{shown(name)}: of type {shown(kind)}", "an array of numbers")
        problem = self._problem(dataset, math.prod(shape) * kind.itemsize)
        if problem:
            raise refused(
                self.path, f"{shown(name)} {shown(list(shape))}: {problem}", "values in the file"
            )
        dtype = np.dtype(np.float32) if brain else np.dtype(kind.newbyteorder("=").str)
        return Stored(dataset, tuple(shape), dtype, brain)

    def _problem(self, dataset: Any, size: int) -> str:
        """What speaks against reading `size` bytes of a dataset, if anything."""
        h5d, plan, held = self._h5py.h5d, dataset.id.get_create_plist(), dataset.id
        layout = plan.get_layout()
        if layout == h5d.VIRTUAL or plan.get_external_count():
            return "kept in other files"
        filters = [plan.get_filter(number)[0] for number in range(plan.get_nfilters())]
        if not set(filters) <= _FILTERS.keys():
            return f"filters {filters}, not among {', '.join(_FILTERS.values())}"
        if not size:
            return ""
        if layout == h5d.CHUNKED:
            chunk = math.prod(plan.get_chunk()) * dataset.dtype.itemsize
            if max(size, chunk) > largest_content(min(held.get_storage_size(), self._size)):
                return f"{size} bytes from {held.get_storage_size()} stored"
            return ""
        end = size + (held.get_offset() or 0)
        if held.get_storage_size() != size or end > self._size:
            return f"{size} bytes where the file stores {held.get_storage_size()}"
        return ""


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
