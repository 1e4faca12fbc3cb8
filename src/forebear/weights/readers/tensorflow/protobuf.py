"""Decodes the wire format of protocol buffers. The meaning of the fields is left to the callers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from forebear.weights.readers.tensorflow.corruption import DamageError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types; TensorFlow does not use groups (3, 4)
_PIECE = 1 << 20  # bytes of varints decoded at once, which limits the temporary memory


class Field(NamedTuple):
    """One field of a message."""

    number: int
    wire: int
    data: memoryview  # the payload without tag and length; for a varint, its bytes

    def integer(self) -> int:
        """Returns the unsigned value of a varint or a fixed field."""
        if self.wire == VARINT:
            return varint(self.data, 0)[0]
        if self.wire == BYTES:
            raise DamageError(f"field {self.number} holds bytes instead of a number")
        return int.from_bytes(self.data, "little")

    def signed(self) -> int:
        """Returns the value of an int64 field."""
        value = self.integer()
        return value - (1 << 64) if value >= 1 << 63 else value

    def message(self) -> memoryview:
        """Returns the bytes of a field that holds bytes, a string or a message."""
        if self.wire != BYTES:
            raise DamageError(f"field {self.number} holds a number instead of bytes")
        return self.data


def fields(message: memoryview) -> Iterator[Field]:
    """Yields the fields of a message in their order.

    Raises:
        DamageError: A field extends beyond the message, or its wire type is unknown.
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
            raise DamageError(f"a message has a field with the unknown wire type {wire}")
        if stop > end:
            raise DamageError(f"field {number} of a message extends beyond its end")
        yield Field(number, wire, message[start:stop])
        at = stop


def varint(data: memoryview, at: int) -> tuple[int, int]:
    """Returns the unsigned integer at `at`, and the offset of the first byte after it.

    Raises:
        DamageError: The varint does not end within 10 bytes or within the data, or it exceeds 64
            bits.
    """
    value = 0
    for count, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            if value >> 64:
                break
            return value, at + count + 1
    raise DamageError("a varint does not end or exceeds 64 bits")


def varints(data: NDArray[np.uint8], count: int) -> NDArray[np.uint64]:
    """Returns the numbers of a packed field.

    Raises:
        DamageError: The field does not hold exactly `count` complete varints.
    """
    found = int(np.count_nonzero(data < 0x80))
    if found != count:
        raise DamageError(f"it has {found} numbers instead of {count}")
    values = np.empty(count, np.uint64)
    done = at = 0
    while at < len(data):
        piece = data[at : at + _PIECE]
        stops = np.flatnonzero(piece < 0x80) + 1
        if len(stops) == 0:
            raise DamageError("a varint does not end")
        starts = np.concatenate(([0], stops[:-1]))
        lengths = stops - starts
        if lengths.max() > 10:
            raise DamageError("a varint does not end within 10 bytes")
        numbers = values[done : done + len(stops)]
        numbers[:] = 0
        for place in range(lengths.max()):
            longer = np.flatnonzero(lengths > place)
            digits = piece[starts[longer] + place].astype(np.uint64) & np.uint64(0x7F)
            numbers[longer] |= digits << np.uint64(7 * place)
        done += len(stops)
        at += int(stops[-1])
    return values
