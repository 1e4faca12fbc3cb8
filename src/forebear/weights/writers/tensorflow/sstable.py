"""The sorted table of TensorFlow's checkpoints, written byte for byte as TensorFlow writes it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import BinaryIO

import numpy as np

from forebear.weights.readers.tensorflow.crc32c import crc32c, masked
from forebear.weights.readers.tensorflow.sstable import FOOTER, MAGIC, RESTART_INTERVAL
from forebear.weights.writers.tensorflow.protobuf import varint

_BLOCK_SIZE = 256 << 10  # bytes at which a block is full; tensorflow/core/lib/io/table_options.h


def write_table(file: BinaryIO, entries: Iterable[tuple[bytes, bytes]]) -> None:
    """Writes entries, given in the order of their keys, as an uncompressed table."""
    index, block, full = _Block(1), _Block(RESTART_INTERVAL), b""
    for key, value in entries:
        if full:  # only now is known what the index may call the block before
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
    """Entries of a block, each without the beginning that its key shares with the one before."""

    def __init__(self, interval: int) -> None:
        self.count = 0
        self.last = b""  # the last key
        self._interval = interval  # entries from one whole key to the next
        self._data = bytearray()
        self._restarts = [0]

    def __len__(self) -> int:
        return len(self._data) + 4 * (len(self._restarts) + 1)

    def add(self, key: bytes, value: bytes) -> None:
        """Appends an entry, whose key is above the last."""
        shared = _shared(self.last, key)
        if self.count and self.count % self._interval == 0:
            self._restarts.append(len(self._data))
            shared = 0
        lengths = varint(shared) + varint(len(key) - shared) + varint(len(value))
        self._data += lengths + key[shared:] + value
        self.last = key
        self.count += 1

    def contents(self) -> bytes:
        """Entries, where whole keys stand, and how many of these there are."""
        numbers = [*self._restarts, len(self._restarts)]
        return bytes(self._data) + np.array(numbers, "<u4").tobytes()


def _put(file: BinaryIO, block: _Block) -> bytes:
    """Writes a block with its trailer, and gives its handle."""
    body = block.contents() + b"\0"  # not compressed
    handle = varint(file.tell()) + varint(len(block))
    file.write(body + masked(crc32c(np.frombuffer(body, np.uint8))).to_bytes(4, "little"))
    return handle


def _shared(one: bytes, other: bytes) -> int:
    """How many bytes two keys begin with in common."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def _between(last: bytes, following: bytes) -> bytes:
    """The shortest key from `last` on that is below `following` (FindShortestSeparator)."""
    at = _shared(last, following)
    if at < len(last) and last[at] + 1 < following[at]:
        return last[:at] + bytes([last[at] + 1])
    return last


def _after(last: bytes) -> bytes:
    """The shortest key from `last` on (FindShortSuccessor)."""
    kept = len(last) - len(last.lstrip(b"\xff"))
    return last[:kept] + bytes([last[kept] + 1]) if kept < len(last) else last
