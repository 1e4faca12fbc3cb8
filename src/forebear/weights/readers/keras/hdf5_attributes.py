"""The attributes of an HDF5 file that hold strings.

Sections IV.A.2.m (attributes) and III.E (global heaps) of the HDF5 file format specification 3.0.
"""

from __future__ import annotations

import math
import struct

from forebear.weights.readers.errors import MAX_NAMES
from forebear.weights.readers.keras.hdf5_bytes import STEP, Hdf5Bytes
from forebear.weights.readers.keras.hdf5_objects import ATTRIBUTE, Node
from forebear.weights.readers.keras.hdf5_types import parse_kind, parse_shape

_NOWHERE = 2**64 - 1


class Attributes:
    """Reads attributes, and the global heaps in which their strings may be stored."""

    def __init__(self, content: Hdf5Bytes) -> None:
        self._bytes = content
        self._heaps: dict[int, dict[int, tuple[int, int]]] = {}  # by their offset

    def strings(self, node: Node, attribute: str) -> list[str] | None:
        """Returns a list of strings, or None. It may be split over attributes NAME0, NAME1, ..."""
        attributes = dict(self._named(data) for kind, data in node.messages if kind == ATTRIBUTE)
        if attribute in attributes:
            return self._strings(attributes[attribute], attribute)
        found: list[str] = []
        part = 0
        while f"{attribute}{part}" in attributes:
            found += self._strings(attributes[f"{attribute}{part}"], attribute)
            part += 1
        return found if part else None

    def _named(self, message: bytes) -> tuple[str, tuple[bytes, bytes, bytes]]:
        """Returns an attribute's name, and the bytes of its type, its shape and its values."""
        self._bytes.spend(STEP)
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
        self._bytes.spend(STEP * count)
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
        return self._bytes.read(place, length).decode()

    def _heap(self, place: int) -> dict[int, tuple[int, int]]:
        """Returns {number: (offset, size)} of the objects in a global heap."""
        if place not in self._heaps:
            kind, size = struct.unpack("<4s4xQ", self._bytes.read(place, 16))
            if kind != b"GCOL":
                raise ValueError("the heap of an attribute's strings is missing")
            found: dict[int, tuple[int, int]] = {}
            at, end = place + 16, min(place + size, self._bytes.size)
            while at + 16 <= end:
                index, length = struct.unpack("<H6xQ", self._bytes.read(at, 16))
                if not index:  # free space, which comes last
                    break
                found[index] = at + 16, length
                at += 16 + ((length + 7) & ~7)
            self._heaps[place] = found
        return self._heaps[place]
