"""Reads msgpack as plain values, which refer to the bytes of the file. Nothing is built or run.

The format is that of https://github.com/msgpack/msgpack, spec.md: one byte says what follows, and
the length of a string, a list or a map comes before its content.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TypeAlias

from forebear.limits import MSGPACK_VALUES, NESTING
from forebear.text import truncated
from forebear.weights.readers.errors import MAX_NAME
from forebear.weights.readers.tensorflow.corruption import DamageError


@dataclass(frozen=True, slots=True)
class Extension:
    """A value of a type that the program defines."""

    kind: int  # -128 to 127
    data: memoryview


Value: TypeAlias = (
    "bool | int | float | str | memoryview | Extension | list[Value] | dict[str, Value] | None"
)

_NUMBERS = {
    0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q",
    0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q",
}  # fmt: skip
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
# The first byte of a value with a length, and the format of the length.
_BYTES = {0xC4: ">B", 0xC5: ">H", 0xC6: ">I"}
_TEXTS = {0xD9: ">B", 0xDA: ">H", 0xDB: ">I"}
_EXTENSIONS = {0xC7: ">B", 0xC8: ">H", 0xC9: ">I"}
_FIXED_EXTENSIONS = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}  # their length in bytes
_LISTS = {0xDC: ">H", 0xDD: ">I"}
_MAPS = {0xDE: ">H", 0xDF: ">I"}


def unpack(data: memoryview, most: int = MSGPACK_VALUES) -> Value:
    """Returns the only value in some bytes.

    A string of more than 1,000 bytes is returned as its bytes.

    Args:
        data: The bytes.
        most: The largest number of values, with those in lists and maps.

    Raises:
        DamageError: The bytes are no msgpack value, are cut, have bytes after the value, have more
            values, or are nested more than 64 levels deep.
    """
    reader = _Reader(data, most)
    value = reader.value(0)
    if reader.at != len(data):
        raise DamageError(f"it has {len(data) - reader.at:,} bytes after its value")
    return value


class _Reader:
    """A place in the bytes, which each value moves on."""

    def __init__(self, data: memoryview, most: int) -> None:
        self.data, self.at, self.most, self.left = data, 0, most, most

    def take(self, count: int) -> memoryview:
        """Returns the next bytes."""
        if count > len(self.data) - self.at:
            raise DamageError(f"a value of {count:,} bytes extends beyond the end")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, form: str) -> int | float:
        """Returns a number of a format of `struct`."""
        found: int | float
        (found,) = struct.unpack(form, self.take(struct.calcsize(form)))
        return found

    def length(self, form: str) -> int:
        """Returns a length."""
        return int(self.number(form))

    def value(self, depth: int) -> Value:
        """Returns the next value."""
        self.left -= 1
        if self.left < 0:
            raise DamageError(f"it has more than {self.most:,} values")
        if depth > NESTING:
            raise DamageError(f"it is nested more than {NESTING} levels deep")
        (mark,) = self.take(1)
        if mark <= 0x7F:
            return mark
        if mark >= 0xE0:
            return mark - 0x100
        if mark in _CONSTANTS:
            return _CONSTANTS[mark]
        if mark in _NUMBERS:
            return self.number(_NUMBERS[mark])
        return self.sized(mark, depth)

    def sized(self, mark: int, depth: int) -> Value:
        """Returns a value whose length is in the first byte, or after it."""
        if mark <= 0x8F:
            return self.map(mark & 0x0F, depth)
        if mark in _MAPS:
            return self.map(self.length(_MAPS[mark]), depth)
        if mark <= 0x9F:
            return self.list(mark & 0x0F, depth)
        if mark in _LISTS:
            return self.list(self.length(_LISTS[mark]), depth)
        if mark <= 0xBF:
            return self.text(mark & 0x1F)
        if mark in _TEXTS:
            return self.text(self.length(_TEXTS[mark]))
        if mark in _BYTES:
            return self.take(self.length(_BYTES[mark]))
        if mark in _FIXED_EXTENSIONS:
            return self.extension(_FIXED_EXTENSIONS[mark])
        if mark in _EXTENSIONS:
            return self.extension(self.length(_EXTENSIONS[mark]))
        raise DamageError(f"a value starts with the byte {mark:#x}, which msgpack does not use")

    def extension(self, length: int) -> Extension:
        """Returns a value of the program's own type."""
        return Extension(int(self.number(">b")), self.take(length))

    def text(self, length: int) -> str | memoryview:
        """Returns a string, or the bytes of a long one."""
        found = self.take(length)
        return found if length > MAX_NAME else str(found, "utf-8")

    def list(self, length: int, depth: int) -> list[Value]:
        """Returns a list."""
        self.check(length)
        return [self.value(depth + 1) for _ in range(length)]

    def map(self, length: int, depth: int) -> dict[str, Value]:
        """Returns a map, whose keys are strings."""
        self.check(2 * length)
        found: dict[str, Value] = {}
        for _ in range(length):
            key = self.value(depth + 1)
            if not isinstance(key, str):
                raise DamageError(f"a key is a {type(key).__name__}, not a string")
            if key in found:
                raise DamageError(f"two values have the key {truncated(key)!r}")
            found[key] = self.value(depth + 1)
        return found

    def check(self, count: int) -> None:
        """Checks that a number of values can be there, as each one has a byte at least."""
        if count > len(self.data) - self.at:
            raise DamageError(f"{count:,} values extend beyond the end")
