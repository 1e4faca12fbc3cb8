"""Decompresses Snappy's raw format, which the blocks of a table may use.

The format is defined in Google's format_description.txt: the length of the output as a varint, then
literals and copies.
"""

from __future__ import annotations

from forebear.weights.readers.tensorflow.corruption import DamageError
from forebear.weights.readers.tensorflow.protobuf import varint

# The best possible compression is a copy of 64 bytes in 3. A file that claims more is damaged.
MOST_OUT_OF_A_BYTE = 22


def decompress(data: memoryview) -> bytes:
    """Returns the decompressed data.

    Raises:
        DamageError: The data are truncated, refer to positions outside themselves, or have another
            length than they claim.
    """
    length, at = varint(data, 0)
    if length > MOST_OUT_OF_A_BYTE * len(data):
        raise DamageError(f"{len(data)} compressed bytes claim to hold {length} bytes")
    out = bytearray(length)
    done = 0
    while at < len(data):
        tag = data[at]
        at += 1
        if tag & 3 == 0:
            size, at = _literal(data, tag >> 2, at)
            _check(done + size <= length and at + size <= len(data))
            out[done : done + size] = data[at : at + size]
            at += size
        else:
            size, offset, at = _copy(data, tag, at)
            _check(done + size <= length and 0 < offset <= done)
            pattern = out[done - offset : min(done, done - offset + size)]
            # A copy may overlap its own output. It then repeats the pattern.
            out[done : done + size] = (pattern * (size // len(pattern) + 1))[:size]
        done += size
    _check(done == length)
    return bytes(out)


def _literal(data: memoryview, code: int, at: int) -> tuple[int, int]:
    """Returns the length and the offset of a literal."""
    extra = max(0, code - 59)
    _check(at + extra <= len(data))
    return (int.from_bytes(data[at : at + extra], "little") if extra else code) + 1, at + extra


def _copy(data: memoryview, tag: int, at: int) -> tuple[int, int, int]:
    """Returns the length and the offset of a copy, and the offset of the next element."""
    extra = (1, 2, 4)[(tag & 3) - 1]
    _check(at + extra <= len(data))
    offset = int.from_bytes(data[at : at + extra], "little")
    if tag & 3 == 1:
        return (tag >> 2 & 7) + 4, (tag >> 5) << 8 | offset, at + extra
    return (tag >> 2) + 1, offset, at + extra


def _check(sound: bool) -> None:
    if not sound:
        raise DamageError("the compressed data of a block are inconsistent")
