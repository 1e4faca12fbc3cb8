"""Encodes fields in the wire format of protocol buffers. Zero values are omitted."""

from __future__ import annotations

from forebear.weights.readers.tensorflow.protobuf import BYTES, FIXED32, VARINT


def varint(value: int) -> bytes:
    """Encodes an unsigned integer with seven bits per byte, the lowest bits first."""
    digits = bytearray()
    while value >= 0x80:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


def number(field: int, value: int) -> bytes:
    """Encodes an integer field."""
    return varint(field << 3 | VARINT) + varint(value) if value else b""


def fixed32(field: int, value: int) -> bytes:
    """Encodes a field of four bytes."""
    return varint(field << 3 | FIXED32) + value.to_bytes(4, "little") if value else b""


def message(field: int, *parts: bytes) -> bytes:
    """Encodes a message from its encoded fields. An empty message is not omitted."""
    body = b"".join(parts)
    return varint(field << 3 | BYTES) + varint(len(body)) + body
