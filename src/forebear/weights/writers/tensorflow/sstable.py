"""Writes the sorted table of a TensorFlow checkpoint, byte for byte like TensorFlow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import BinaryIO

import numpy as np

from forebear.weights.readers.tensorflow.crc32c import crc32c, masked
from forebear.weights.readers.tensorflow.sstable import FOOTER, MAGIC, RESTART_INTERVAL
from forebear.weights.writers.tensorflow.protobuf import varint

_BLOCK_SIZE = 256 << 10  # bytes of a full block; tensorflow/core/lib/io/table_options.h


def write_table(file: BinaryIO, entries: Iterable[tuple[bytes, bytes]]) -> None:
    """Writes entries as an uncompressed table. They must be in the order of their keys."""
    index, block, full = _Block(1), _Block(RESTART_INTERVAL), b""
    for key, value in entries:
        if full:  # the next key determines the key of the previous block in the index
            index.add(_between(block.last, key), full)
            block, full = _Block(RESTART_INTERVAL), b""
        block.add(key, value)
        if len(block) >= _BLOCK_SIZE:
            full = _put(file, block)
    if block.count:
        index.add(_after(block.last), full or _put(file, block))
    meta = _put(file, _Block(RESTART_INTERVAL))
    handles = meta + _put(file, index)
    file.write(handles.ljust(FOOTER - len(MAGIC), b"\0") + MAGIC)


class _Block:
    """A block of entries. A key omits the prefix that it has in common with the previous key."""

    def __init__(self, interval: int) -> None:
        self.count = 0
        self.last = b""  # the last key
        self._interval = interval  # number of entries from one complete key to the next
        self._data = bytearray()
        self._restarts = [0]

    def __len__(self) -> int:
        return len(self._data) + 4 * (len(self._restarts) + 1)

    def add(self, key: bytes, value: bytes) -> None:
        """Appends an entry. Its key must be greater than the last one."""
        shared = _shared(self.last, key)
        if self.count and self.count % self._interval == 0:
            self._restarts.append(len(self._data))
            shared = 0
        lengths = varint(shared) + varint(len(key) - shared) + varint(len(value))
        self._data += lengths + key[shared:] + value
        self.last = key
        self.count += 1

    def contents(self) -> bytes:
        """Returns the entries, the offsets of the complete keys, and the number of these."""
        numbers = [*self._restarts, len(self._restarts)]
        return bytes(self._data) + np.array(numbers, "<u4").tobytes()


def _put(file: BinaryIO, block: _Block) -> bytes:
    """Writes a block with its trailer, and returns its handle."""
    body = block.contents() + b"\0"  # not compressed
    handle = varint(file.tell()) + varint(len(block))
    file.write(body + masked(crc32c(np.frombuffer(body, np.uint8))).to_bytes(4, "little"))
    return handle


def _shared(one: bytes, other: bytes) -> int:
    """Returns the length in bytes of the common prefix of two keys."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def _between(last: bytes, following: bytes) -> bytes:
    """Returns the shortest key k with `last` <= k < `following` (FindShortestSeparator)."""
    at = _shared(last, following)
    if at < len(last) and last[at] + 1 < following[at]:
        return last[:at] + bytes([last[at] + 1])
    return last


def _after(last: bytes) -> bytes:
    """Returns the shortest key that is at least `last` (FindShortSuccessor)."""
    kept = len(last) - len(last.lstrip(b"\xff"))
    return last[:kept] + bytes([last[kept] + 1]) if kept < len(last) else last
