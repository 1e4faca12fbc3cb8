"""The wire format of protocol buffers: fields into bytes; what is zero or empty is left out."""

from __future__ import annotations

from forebear.weights.readers.tensorflow.protobuf import BYTES, FIXED32, VARINT


def varint(value: int) -> bytes:
    """An unsigned number, seven bits a byte, the lowest first."""
    digits = bytearray()
    while value >= 0x80:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


def number(field: int, value: int) -> bytes:
    """An integer field."""
    return varint(field << 3 | VARINT) + varint(value) if value else b""


def fixed32(field: int, value: int) -> bytes:
    """A field of four bytes."""
    return varint(field << 3 | FIXED32) + value.to_bytes(4, "little") if value else b""


def message(field: int, *parts: bytes) -> bytes:
    """A message made of its fields; written also when it is empty, because it is there."""
    body = b"".join(parts)
    return varint(field << 3 | BYTES) + varint(len(body)) + body
