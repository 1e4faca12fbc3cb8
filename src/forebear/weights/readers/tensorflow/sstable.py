"""The sorted table under both formats of TensorFlow's checkpoints: LevelDB's, slightly changed.

Blocks of sorted entries, one block that indexes them, and a footer of 48 bytes. Facts: LevelDB's
doc/table_format.md. What the values mean is left to the readers.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from io import SEEK_END
from pathlib import Path
from typing import NamedTuple

import numpy as np

from forebear.weights.readers.tensorflow.corruption import DamageError
from forebear.weights.readers.tensorflow.crc32c import crc32c, masked
from forebear.weights.readers.tensorflow.protobuf import varint
from forebear.weights.readers.tensorflow.snappy import decompress

MAGIC = bytes.fromhex("57fb808b247547db")
FOOTER = 48  # bytes: two handles, padding, the magic
TRAILER = 5  # bytes after a block: its compression and its checksum
RESTART_INTERVAL = 16  # entries from one whole key to the next, as TensorFlow writes them
_KEPT = 1 << 20  # bytes of a block that is kept for the next question; larger ones are let go


class Handle(NamedTuple):
    """Where a block stands in the file, without its trailer."""

    offset: int
    size: int


class Table:
    """A table that is open for reading. Only its index is held, and the last small block."""

    def __init__(self, path: Path) -> None:
        """Opens a table and reads its index.

        Raises:
            DamageError: no table, or one whose index is damaged.
            OSError: it cannot be opened or read.
        """
        self._file = path.open("rb")
        try:
            self.size = self._file.seek(0, SEEK_END)  # bytes
            self._keys, self._handles = self._index()
        except BaseException:
            self._file.close()
            raise
        self._last: tuple[int, dict[bytes, memoryview]] | None = None

    def close(self) -> None:
        """Lets go of the file."""
        self._file.close()

    def get(self, key: bytes) -> memoryview:
        """The value under a key; its block is read and checked for it.

        Raises:
            DamageError: no such key, or a damaged block.
        """
        # The index holds, for each block, a key not below any in it.
        number = bisect_left(self._keys, key)
        value = self._entries(number).get(key) if number < len(self._keys) else None
        if value is None:
            raise DamageError("the table holds no entry for it")
        return value

    def items(self) -> Iterator[tuple[bytes, memoryview]]:
        """All entries in the order of their keys, a block at a time."""
        last = None
        for handle in self._handles:
            for key, value in _entries(self._block(handle)):
                if last is not None and key <= last:
                    raise DamageError("the keys of the table are not in order")
                last = key
                yield key, value

    def _entries(self, number: int) -> dict[bytes, memoryview]:
        if self._last is not None and self._last[0] == number:
            return self._last[1]
        self._last = None  # before the next is read: one block in memory, not two
        block = self._block(self._handles[number])
        entries = dict(_entries(block))
        if len(block) <= _KEPT:
            self._last = number, entries
        return entries

    def _index(self) -> tuple[list[bytes], list[Handle]]:
        footer = self._read(Handle(self.size - FOOTER, FOOTER)) if self.size >= FOOTER else b""
        if not footer.endswith(MAGIC):
            raise DamageError("it does not end as a table does")
        _, at = _handle(memoryview(footer), 0)  # of the meta index, which is always empty
        index, _ = _handle(memoryview(footer), at)
        keys, handles, free = [], [], 0
        for key, value in _entries(self._block(index)):
            handle, _ = _handle(value, 0)
            if handle.offset < free:
                raise DamageError("blocks of the table lie over each other")
            free = handle.offset + handle.size + TRAILER
            keys.append(key)
            handles.append(handle)
        if free > self.size - FOOTER:
            raise DamageError("the table is shorter than its index says")
        return keys, handles

    def _block(self, handle: Handle) -> memoryview:
        """The contents of a block, checked and unpacked."""
        if handle.offset + handle.size + TRAILER > self.size - FOOTER:
            raise DamageError(f"a block of {handle.size} bytes reaches beyond the table")
        data = self._read(Handle(handle.offset, handle.size + TRAILER))
        checked = np.frombuffer(data, np.uint8)[:-4]
        if masked(crc32c(checked)) != int.from_bytes(data[-4:], "little"):
            raise DamageError(f"the checksum of the block at byte {handle.offset} does not match")
        body, compression = memoryview(data)[: handle.size], data[handle.size]
        if compression > 1:
            raise DamageError(f"a block is of compression {compression}")
        return memoryview(decompress(body)) if compression else body

    def _read(self, handle: Handle) -> bytes:
        self._file.seek(handle.offset)
        data = self._file.read(handle.size)
        if len(data) != handle.size:
            raise DamageError("the file became shorter while it was read")
        return data


def ends_as_table(path: Path) -> bool:
    """Whether a file is there and ends with a table's magic."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            size = file.seek(0, SEEK_END)
            file.seek(max(0, size - len(MAGIC)))
            return size >= FOOTER and file.read() == MAGIC
    except OSError:
        return False


def _handle(data: memoryview, at: int) -> tuple[Handle, int]:
    offset, at = varint(data, at)
    size, at = varint(data, at)
    return Handle(offset, size), at


def _entries(block: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """The entries of a block in the order of their keys, which share beginnings with the last.

    Raises:
        DamageError: an entry reaches outside the block, or keys are out of order.
    """
    if len(block) < 4:
        raise DamageError(f"a block of {len(block)} bytes is too short")
    restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 * (restarts + 1)
    if end < 0:
        raise DamageError(f"a block of {len(block)} bytes counts {restarts} restarts")
    # Keys grow by what they share. With a whole one every 16 they grow 16-fold at the most.
    room = RESTART_INTERVAL * len(block)
    key, at = b"", 0
    while at < end:
        first = at == 0
        shared, at = varint(block, at)
        fresh, at = varint(block, at)
        length, at = varint(block, at)
        if shared > len(key) or at + fresh + length > end:
            raise DamageError("an entry of a block reaches outside it")
        before, key = key, key[:shared] + bytes(block[at : at + fresh])
        room -= len(key)
        if (key <= before and not first) or room < 0:
            raise DamageError("the keys of a block are not in order")
        at += fresh
        yield key, block[at : at + length]
        at += length
