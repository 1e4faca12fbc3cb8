"""Reads HDF5 files that Keras wrote, without the HDF5 library.

In that library (2.0.0), a few damaged bytes can cause an infinite loop that Python cannot stop, and
malicious files have exploited it before. Keras uses only a small part of the format: h5py's
defaults, which are superblock 0, symbol tables and contiguous datasets. Everything else raises an
error: links, virtual and external data, filters and object types. Every step uses up a budget, so
that circular references end in an error.

The layouts are in the HDF5 file format specification 3.0. The reader has four parts: the bytes
(hdf5_bytes.py), the groups and object headers (hdf5_objects.py), the attributes
(hdf5_attributes.py), and the types of values (hdf5_types.py). This module puts them together, and
reads the datasets.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from forebear.text import truncated
from forebear.weights.readers.base import Array
from forebear.weights.readers.errors import reading, refused
from forebear.weights.readers.keras.hdf5_attributes import Attributes
from forebear.weights.readers.keras.hdf5_bytes import STEP, Hdf5Bytes, find_hdf5
from forebear.weights.readers.keras.hdf5_objects import (
    EXTERNAL,
    FILTERS,
    KIND,
    LAYOUT,
    SPACE,
    Node,
    Objects,
    parse_superblock,
)
from forebear.weights.readers.keras.hdf5_types import Kind, parse_kind, parse_shape

EXPECTED = "an HDF5 file of Keras weights, as Keras writes it"


@dataclass(frozen=True, slots=True)
class Stored:
    """A dataset that is safe to read."""

    place: int
    shape: tuple[int, ...]
    kind: Kind

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the returned array, in native byte order. bfloat16 becomes float32."""
        if self.kind.kind != "number":
            return np.dtype(np.float32)
        assert self.kind.dtype is not None  # numbers have a dtype
        return np.dtype(self.kind.dtype.newbyteorder("=").str)


class Hdf5:
    """An open file, with access to groups by name, their attributes, and datasets."""

    def __init__(self, path: Path, content: IO[bytes] | None = None) -> None:
        """Opens a file for reading.

        Args:
            path: The file, also for messages.
            content: The HDF5 file itself, if `path` is an archive that contains it.

        Raises:
            WeightsError: The file is truncated, or it uses features that Keras does not use.
        """
        self.path = path
        with reading(path, EXPECTED):
            start = 0 if content is not None else find_hdf5(path) or 0
            self._file = path.open("rb") if content is None else content
            try:
                self._bytes = Hdf5Bytes(self._file, start)
                self._objects = Objects(self._bytes)
                self._attributes = Attributes(self._bytes)
                self.root = self._objects.node(parse_superblock(self._bytes))
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def child(self, group: Node, name: str) -> Node | None:
        """Returns the group or dataset at a path below `group`, or None."""
        for part in name.split("/"):
            place = self._objects.members(group).get(part)
            if place is None:
                return None
            group = self._objects.node(place)
        return group

    def children(self, group: Node) -> list[str]:
        """Returns the names in a group; an empty list for a dataset."""
        members = list(self._objects.members(group))
        self._bytes.spend(STEP * len(members))
        return members

    def strings(self, node: Node, attribute: str) -> list[str] | None:
        """Returns a list of strings, or None. It may be split over attributes NAME0, NAME1, ..."""
        return self._attributes.strings(node, attribute)

    def text(self, node: Node, attribute: str) -> str | None:
        """Returns the first string of an attribute, or None if it is missing."""
        found = self.strings(node, attribute)
        return found[0] if found else None

    def stored(self, node: Node | None, name: str) -> Stored:
        """Returns a dataset after checking its type, its offset and its size.

        Raises:
            WeightsError: The dataset is missing, damaged or not supported. The message names it.
        """
        space, kind, layout = (
            node.message(number) if node else None for number in (SPACE, KIND, LAYOUT)
        )
        if not node or not space or not kind or not layout:
            raise refused(self.path, f"{truncated(name)}: this dataset does not exist", EXPECTED)
        stored = Stored(0, parse_shape(space), parse_kind(kind))
        brain = stored.kind.kind == "bfloat16" or (
            stored.kind.dtype is not None and self.text(node, "dtype") == "bfloat16"
        )
        if stored.kind.kind != "number" and not brain:
            raise refused(
                self.path,
                f"{truncated(name)}: its values have type {stored.kind.kind} and "
                f"{stored.kind.size} bytes each",
                "an array of numbers",
            )
        if node.message(EXTERNAL) or node.message(FILTERS) or layout[:2] != b"\3\1":
            raise refused(
                self.path,
                f"{truncated(name)}: the array is chunked, compressed, or stored in another file",
                "contiguous arrays, as Keras writes them",
                "Load and save the file with Keras.",
            )
        place, size = struct.unpack_from("<QQ", layout, 2)
        wanted = math.prod(stored.shape) * stored.kind.size
        if wanted and (size != wanted or place + size > self._bytes.size):
            raise refused(
                self.path,
                f"{truncated(name)} {truncated(list(stored.shape))}: it needs {wanted} bytes, but "
                f"the file has {min(size, max(0, self._bytes.size - place))}",
                "a file with all values",
            )
        return Stored(place, stored.shape, stored.kind)

    def read(self, stored: Stored) -> Array:
        """Reads a complete array."""
        array = np.empty(stored.shape, stored.kind.dtype)
        if array.size:
            self._bytes.fill(array, stored.place)
        if stored.kind.kind == "number":
            return array.astype(stored.dtype, copy=False)
        return (array.astype(np.uint32) << 16).view(np.float32)
