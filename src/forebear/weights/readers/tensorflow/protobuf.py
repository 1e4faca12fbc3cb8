"""The wire format of protocol buffers: fields out of bytes, and nothing about what they mean."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from forebear.weights.readers.tensorflow.corruption import DamageError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types; groups (3, 4) were never used here
_PIECE = 1 << 20  # varints decoded at once: bounds what the decoding needs beside its result


class Field(NamedTuple):
    """One field as it stands in a message."""

    number: int
    wire: int
    data: memoryview  # its payload without tag and length; of a varint, the varint

    def integer(self) -> int:
        """The value of a varint or a fixed field, unsigned."""
        if self.wire == VARINT:
            return varint(self.data, 0)[0]
        if self.wire == BYTES:
            raise DamageError(f"field {self.number} holds bytes instead of a number")
        return int.from_bytes(self.data, "little")

    def signed(self) -> int:
        """The value of an int64 field."""
        value = self.integer()
        return value - (1 << 64) if value >= 1 << 63 else value

    def message(self) -> memoryview:
        """The bytes of a field of bytes, a string or a message."""
        if self.wire != BYTES:
            raise DamageError(f"field {self.number} holds a number instead of bytes")
        return self.data


def fields(message: memoryview) -> Iterator[Field]:
    """The fields of a message, in its order.

    Raises:
        DamageError: a field reaches beyond the message, or is of no known wire type.
    """
    at, end = 0, len(message)
    while at < end:
        tag, start = varint(message, at)
        number, wire = tag >> 3, tag & 7
        if wire == VARINT:
            stop = varint(message, start)[1]
        elif wire == BYTES:
            length, start = varint(message, start)
            stop = start + length
        elif wire in (FIXED32, FIXED64):
            stop = start + (4 if wire == FIXED32 else 8)
        else:
            raise DamageError(f"a message holds a field of wire type {wire}")
        if stop > end:
            raise DamageError(f"field {number} of a message reaches beyond its end")
        yield Field(number, wire, message[start:stop])
        at = stop


def varint(data: memoryview, at: int) -> tuple[int, int]:
    """The unsigned number at `at`, and where the next thing begins.

    Raises:
        DamageError: it does not end within 10 bytes or within the data, or exceeds 64 bits.
    """
    value = 0
    for count, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            if value >> 64:
                break
            return value, at + count + 1
    raise DamageError("a varint has no end or no place in 64 bits")


def varints(data: NDArray[np.uint8], count: int) -> NDArray[np.uint64]:
    """The numbers of a packed field.

    Raises:
        DamageError: they are not `count` whole varints.
    """
    found = int(np.count_nonzero(data < 0x80))
    if found != count:
        raise DamageError(f"{found} numbers stand where {count} belong")
    values = np.empty(count, np.uint64)
    done = at = 0
    while at < len(data):
        piece = data[at : at + _PIECE]
        stops = np.flatnonzero(piece < 0x80) + 1
        if len(stops) == 0:
            raise DamageError("a varint has no end")
        starts = np.concatenate(([0], stops[:-1]))
        lengths = stops - starts
        if lengths.max() > 10:
            raise DamageError("a varint has no end within 10 bytes")
        numbers = values[done : done + len(stops)]
        numbers[:] = 0
        for place in range(lengths.max()):
            longer = np.flatnonzero(lengths > place)
            digits = piece[starts[longer] + place].astype(np.uint64) & np.uint64(0x7F)
            numbers[longer] |= digits << np.uint64(7 * place)
        done += len(stops)
        at += int(stops[-1])
    return values
