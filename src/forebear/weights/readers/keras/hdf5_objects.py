"""The objects of an HDF5 file: groups and datasets, with the messages of their headers.

Sections II.A (superblock), III.A.1 and III.B to III.D (groups) and IV.A.1.a (object headers) of the
HDF5 file format specification 3.0.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from forebear.weights.readers.keras.hdf5_bytes import SIGNATURE, STEP, Hdf5Bytes

SPACE, KIND, EXTERNAL, LAYOUT, FILTERS, ATTRIBUTE, CONTINUED, TABLE = (
    1, 3, 7, 8, 11, 12, 16, 17,
)  # fmt: skip
_SHARED = 2  # flag of a message that is stored elsewhere
_NEW_GROUPS = {2, 6}  # link info and link: messages of the newer kind of groups
_SOFT_LINK = 2  # cache type of a symbol


@dataclass(frozen=True, slots=True)
class Node:
    """A group or a dataset, with the messages of its object header."""

    messages: list[tuple[int, bytes]]

    def message(self, kind: int) -> bytes | None:
        """Returns the first message of a kind, or None."""
        return next((data for number, data in self.messages if number == kind), None)


def parse_superblock(content: Hdf5Bytes) -> int:
    """Returns the offset of the root group's header (section II.A)."""
    start, version, offsets, lengths = struct.unpack("<8sB4xBB", content.read(0, 15))
    if start != SIGNATURE:
        raise ValueError("the signature of HDF5 is missing")
    if version > 1 or (offsets, lengths) != (8, 8):
        raise ValueError(f"superblock {version} with addresses of {offsets} bytes is not supported")
    base, _, end, _, _, root = struct.unpack("<6Q", content.read(28 if version else 24, 48))
    if base != content.start or end - base > content.size:
        raise ValueError(f"it should have {end - base} bytes, but it has {content.size}")
    return int(root)


class Objects:
    """The groups and datasets of a file, by the offsets of their headers."""

    def __init__(self, content: Hdf5Bytes) -> None:
        self._bytes = content
        self._nodes: dict[int, Node] = {}
        self._groups: dict[int, dict[str, int]] = {}  # by the offset of their trees

    def node(self, place: int) -> Node:
        """Returns the group or dataset whose header is at an offset."""
        if place not in self._nodes:
            self._nodes[place] = Node(self._messages(place))
        self._bytes.spend(STEP)
        return self._nodes[place]

    def _messages(self, place: int) -> list[tuple[int, bytes]]:
        version, size = struct.unpack("<B7xI", self._bytes.read(place, 12))
        if version != 1:
            raise ValueError(f"an object header of version {version} is not supported")
        found = []
        blocks = [(place + 16, size)]
        for start, length in blocks:  # the loop appends to the list
            block = self._bytes.read(start, length)
            at = 0
            while at + 8 <= length:
                self._bytes.spend(STEP)
                kind, size, flags = struct.unpack_from("<HHB", block, at)
                data = block[at + 8 : at + 8 + size]
                if kind == CONTINUED:
                    blocks.append(struct.unpack_from("<QQ", data))
                elif kind in _NEW_GROUPS or (flags & _SHARED and kind):
                    raise ValueError("it has links or shared messages, which Keras does not write")
                else:
                    found.append((kind, data))
                at += 8 + size
        return found

    def members(self, group: Node) -> dict[str, int]:
        """Returns {name: offset of the object header} of a group."""
        table = group.message(TABLE)
        if table is None:
            return {}
        tree, heap = struct.unpack_from("<QQ", table)
        if tree not in self._groups:
            kind, size, _, place = struct.unpack("<4s4xQQQ", self._bytes.read(heap, 32))
            if kind != b"HEAP":
                raise ValueError("the heap of names of a group is missing")
            self._groups[tree] = dict(self._symbols(tree, self._bytes.read(place, size)))
        return self._groups[tree]

    def _symbols(self, tree: int, names: bytes) -> list[tuple[str, int]]:
        found = []
        places = [tree]
        for place in places:  # the loop appends to the list
            kind, _, used = struct.unpack("<4sHH", self._bytes.read(place, 8))
            if kind == b"TREE":
                block = self._bytes.read(place + 24, 8 + 16 * used)
                places += struct.unpack("<" + "8xQ" * used + "8x", block)
            elif kind == b"SNOD":
                block = self._bytes.read(place + 8, 40 * used)
                for name, header, cached in struct.iter_unpack("<QQI20x", block):
                    self._bytes.spend(STEP)
                    if cached == _SOFT_LINK:
                        raise ValueError("it has a soft link, which Keras does not write")
                    found.append((names[name : names.index(0, name)].decode(), header))
            else:
                raise ValueError("the tree of a group is missing")
        return found
