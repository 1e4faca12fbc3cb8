"""Reads HDF5 files that Keras wrote, without the HDF5 library.

In that library (2.0.0), a few damaged bytes can cause an infinite loop that Python cannot stop, and
malicious files have exploited it before. Keras uses only a small part of the format: h5py's
defaults, which are superblock 0, symbol tables and contiguous datasets. Everything else raises an
error: links, virtual and external data, filters and object types. Every step uses up a budget, so
that circular references end in an error.

The layouts are in the HDF5 file format specification 3.0. Comments below name its sections.
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
from forebear.weights.readers.errors import MAX_NAMES, reading, refused
from forebear.weights.readers.keras.hdf5_types import Kind, parse_kind, parse_shape

SIGNATURE = b"\x89HDF\r\n\x1a\n"
EXPECTED = "an HDF5 file of Keras weights, as Keras writes it"
_SPACE, _KIND, _EXTERNAL, _LAYOUT, _FILTERS, _ATTRIBUTE, _CONTINUED, _TABLE = (
    1, 3, 7, 8, 11, 12, 16, 17,
)  # fmt: skip
_SHARED = 2  # flag of a message that is stored elsewhere
_NEW_GROUPS = {2, 6}  # link info and link: messages of the newer kind of groups
_SOFT_LINK = 2  # cache type of a symbol
_CONTIGUOUS = 1
_NOWHERE = 2**64 - 1
_STEP = 32  # cost of a step, where a byte costs 1; a step takes about a microsecond
_MOST = 128 * 2**20  # the maximum budget; the metadata of ResNet152 take 2 MB


def find_hdf5(path: Path) -> int | None:
    """Returns the offset of HDF5's signature, or None. It may be at 0, 512, 1024, 2048, ..."""
    with path.open("rb") as file:
        size, place = path.stat().st_size, 0
        while place < size:
            file.seek(place)
            if file.read(len(SIGNATURE)) == SIGNATURE:
                return place
            place = 2 * place or 512
    return None


@dataclass(frozen=True, slots=True)
class Node:
    """A group or a dataset, with the messages of its object header."""

    messages: list[tuple[int, bytes]]

    def message(self, kind: int) -> bytes | None:
        """Returns the first message of a kind, or None."""
        return next((data for number, data in self.messages if number == kind), None)


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
        self._groups: dict[int, dict[str, int]] = {}  # by the offset of their trees
        self._heaps: dict[int, dict[int, tuple[int, int]]] = {}
        self._nodes: dict[int, Node] = {}
        with reading(path, EXPECTED):
            self._start = 0 if content is not None else find_hdf5(path) or 0
            self._file = path.open("rb") if content is None else content
            try:
                self._size = self._file.seek(0, 2) - self._start
                self._budget = min(4 * self._size + 100_000, _MOST)
                self.root = self._node(self._superblock())
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def child(self, group: Node, name: str) -> Node | None:
        """Returns the group or dataset at a path below `group`, or None."""
        for part in name.split("/"):
            place = self._members(group).get(part)
            if place is None:
                return None
            group = self._node(place)
        return group

    def children(self, group: Node) -> list[str]:
        """Returns the names in a group; an empty list for a dataset."""
        members = list(self._members(group))
        self._spend(_STEP * len(members))
        return members

    def strings(self, node: Node, attribute: str) -> list[str] | None:
        """Returns a list of strings, or None. It may be split over attributes NAME0, NAME1, ..."""
        attributes = dict(self._named(data) for kind, data in node.messages if kind == _ATTRIBUTE)
        if attribute in attributes:
            return self._strings(attributes[attribute], attribute)
        found: list[str] = []
        part = 0
        while f"{attribute}{part}" in attributes:
            found += self._strings(attributes[f"{attribute}{part}"], attribute)
            part += 1
        return found if part else None

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
            node.message(number) if node else None for number in (_SPACE, _KIND, _LAYOUT)
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
        if node.message(_EXTERNAL) or node.message(_FILTERS) or layout[:2] != b"\3\1":
            raise refused(
                self.path,
                f"{truncated(name)}: the array is chunked, compressed, or stored in another file",
                "contiguous arrays, as Keras writes them",
                "Load and save the file with Keras.",
            )
        place, size = struct.unpack_from("<QQ", layout, 2)
        wanted = math.prod(stored.shape) * stored.kind.size
        if wanted and (size != wanted or place + size > self._size):
            raise refused(
                self.path,
                f"{truncated(name)} {truncated(list(stored.shape))}: it needs {wanted} bytes, but "
                f"the file has {min(size, max(0, self._size - place))}",
                "a file with all values",
            )
        return Stored(place, stored.shape, stored.kind)

    def read(self, stored: Stored) -> Array:
        """Reads a complete array."""
        array = np.empty(stored.shape, stored.kind.dtype)
        if array.size:
            self._file.seek(self._start + stored.place)
            if self._file.readinto(array.reshape(-1).view(np.uint8)) != array.nbytes:  # type: ignore[attr-defined]
                raise ValueError("the file ends within its values")
        if stored.kind.kind == "number":
            return array.astype(stored.dtype, copy=False)
        return (array.astype(np.uint32) << 16).view(np.float32)

    # ---- II.A, the superblock, and IV.A.1.a, object headers

    def _superblock(self) -> int:
        """Returns the offset of the root group's header."""
        start, version, offsets, lengths = struct.unpack("<8sB4xBB", self._bytes(0, 15))
        if start != SIGNATURE:
            raise ValueError("the signature of HDF5 is missing")
        if version > 1 or (offsets, lengths) != (8, 8):
            raise ValueError(
                f"superblock {version} with addresses of {offsets} bytes is not supported"
            )
        base, _, end, _, _, root = struct.unpack("<6Q", self._bytes(28 if version else 24, 48))
        if base != self._start or end - base > self._size:
            raise ValueError(f"it should have {end - base} bytes, but it has {self._size}")
        return int(root)

    def _node(self, place: int) -> Node:
        if place not in self._nodes:
            self._nodes[place] = Node(self._messages(place))
        self._spend(_STEP)
        return self._nodes[place]

    def _messages(self, place: int) -> list[tuple[int, bytes]]:
        version, size = struct.unpack("<B7xI", self._bytes(place, 12))
        if version != 1:
            raise ValueError(f"an object header of version {version} is not supported")
        found = []
        blocks = [(place + 16, size)]
        for start, length in blocks:  # the loop appends to the list
            block = self._bytes(start, length)
            at = 0
            while at + 8 <= length:
                self._spend(_STEP)
                kind, size, flags = struct.unpack_from("<HHB", block, at)
                data = block[at + 8 : at + 8 + size]
                if kind == _CONTINUED:
                    blocks.append(struct.unpack_from("<QQ", data))
                elif kind in _NEW_GROUPS or (flags & _SHARED and kind):
                    raise ValueError("it has links or shared messages, which Keras does not write")
                else:
                    found.append((kind, data))
                at += 8 + size
        return found

    # ---- III.A.1 and III.B to III.D, groups: a tree of symbol tables, and a heap of names

    def _members(self, group: Node) -> dict[str, int]:
        """Returns {name: offset of the object header} of a group."""
        table = group.message(_TABLE)
        if table is None:
            return {}
        tree, heap = struct.unpack_from("<QQ", table)
        if tree not in self._groups:
            kind, size, _, place = struct.unpack("<4s4xQQQ", self._bytes(heap, 32))
            if kind != b"HEAP":
                raise ValueError("the heap of names of a group is missing")
            self._groups[tree] = dict(self._symbols(tree, self._bytes(place, size)))
        return self._groups[tree]

    def _symbols(self, tree: int, names: bytes) -> list[tuple[str, int]]:
        found = []
        places = [tree]
        for place in places:  # the loop appends to the list
            kind, _, used = struct.unpack("<4sHH", self._bytes(place, 8))
            if kind == b"TREE":
                block = self._bytes(place + 24, 8 + 16 * used)
                places += struct.unpack("<" + "8xQ" * used + "8x", block)
            elif kind == b"SNOD":
                block = self._bytes(place + 8, 40 * used)
                for name, header, cached in struct.iter_unpack("<QQI20x", block):
                    self._spend(_STEP)
                    if cached == _SOFT_LINK:
                        raise ValueError("it has a soft link, which Keras does not write")
                    found.append((names[name : names.index(0, name)].decode(), header))
            else:
                raise ValueError("the tree of a group is missing")
        return found

    # ---- IV.A.2.m, attributes, and III.E, the global heap of their strings

    def _named(self, message: bytes) -> tuple[str, tuple[bytes, bytes, bytes]]:
        """Returns an attribute's name, and the bytes of its type, its shape and its values."""
        self._spend(_STEP)
        version, flags, *sizes = struct.unpack_from("<BBHHH", message)
        if version not in (1, 2, 3) or (version > 1 and flags):
            raise ValueError(
                f"an attribute of version {version} with flags {flags} is not supported"
            )
        at = 9 if version == 3 else 8
        parts = []
        for size in sizes:
            parts.append(message[at : at + size])
            at += size if version > 1 else (size + 7) & ~7
        name, kind, space = parts
        return name.rstrip(b"\0").decode(), (kind, space, message[at:])

    def _strings(self, attribute: tuple[bytes, bytes, bytes], name: str) -> list[str]:
        kind, shape, values = parse_kind(attribute[0]), parse_shape(attribute[1]), attribute[2]
        count = math.prod(shape)
        if not count:
            return []
        if count > MAX_NAMES or count * kind.size > len(values):
            raise ValueError(
                f"{name}: {len(values)} bytes do not hold {count} values of {kind.size} bytes"
            )
        self._spend(_STEP * count)
        pieces = [values[kind.size * i : kind.size * (i + 1)] for i in range(count)]
        if kind.kind == "string":
            return [piece.split(b"\0")[0].decode() for piece in pieces]
        if kind.kind != "pointer to string":
            raise ValueError(f"{name}: its values have type {kind.kind} instead of string")
        return [self._pointed(*struct.unpack("<IQI", piece)) for piece in pieces]

    def _pointed(self, length: int, heap: int, index: int) -> str:
        if heap in (0, _NOWHERE) and not length:
            return ""
        place, size = self._heap(heap).get(index, (0, 0))
        if length > size:
            raise ValueError(f"a string of {length} bytes is stored in {size} bytes")
        return self._bytes(place, length).decode()

    def _heap(self, place: int) -> dict[int, tuple[int, int]]:
        """Returns {number: (offset, size)} of the objects in a global heap."""
        if place not in self._heaps:
            kind, size = struct.unpack("<4s4xQ", self._bytes(place, 16))
            if kind != b"GCOL":
                raise ValueError("the heap of an attribute's strings is missing")
            found: dict[int, tuple[int, int]] = {}
            at, end = place + 16, min(place + size, self._size)
            while at + 16 <= end:
                index, length = struct.unpack("<H6xQ", self._bytes(at, 16))
                if not index:  # free space, which comes last
                    break
                found[index] = at + 16, length
                at += 16 + ((length + 7) & ~7)
            self._heaps[place] = found
        return self._heaps[place]

    # ---- bytes

    def _bytes(self, place: int, count: int) -> bytes:
        if place + count > self._size:
            raise ValueError(
                f"{count} bytes at offset {place} are beyond the end of the file at {self._size}"
            )
        self._spend(_STEP + count)
        self._file.seek(self._start + place)
        return self._file.read(count)

    def _spend(self, cost: int) -> None:
        self._budget -= cost
        if self._budget < 0:
            raise ValueError("it has circular references or too many parts")
