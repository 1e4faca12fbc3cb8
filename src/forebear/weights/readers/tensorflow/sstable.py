"""Reads the sorted table of both TensorFlow checkpoint formats, a variant of LevelDB's.

It consists of blocks of sorted entries, an index block, and a footer of 48 bytes. The format is
defined in LevelDB's doc/table_format.md. The checkpoint readers interpret the values.
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
RESTART_INTERVAL = 16  # TensorFlow's number of entries from one complete key to the next
_KEPT = 1 << 20  # maximum bytes of a block that is cached for the next lookup


class Handle(NamedTuple):
    """The offset and the size in bytes of a block in the file, without its trailer."""

    offset: int
    size: int


class Table:
    """A table that is open for reading. Only its index and the last small block are in memory."""

    def __init__(self, path: Path) -> None:
        """Opens a table and reads its index.

        Raises:
            DamageError: The file is not a table, or its index is damaged.
            OSError: The file cannot be opened or read.
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
        """Closes the file."""
        self._file.close()

    def get(self, key: bytes) -> memoryview:
        """Returns the value of a key, after reading and verifying its block.

        Raises:
            DamageError: The key is missing, or its block is damaged.
        """
        # The index has a key for each block that is at least as large as all keys in the block.
        number = bisect_left(self._keys, key)
        value = self._entries(number).get(key) if number < len(self._keys) else None
        if value is None:
            raise DamageError("the table has no entry for it")
        return value

    def items(self) -> Iterator[tuple[bytes, memoryview]]:
        """Yields all entries in the order of their keys. One block is in memory at a time."""
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
        self._last = None  # frees the last block before the next one is read
        block = self._block(self._handles[number])
        entries = dict(_entries(block))
        if len(block) <= _KEPT:
            self._last = number, entries
        return entries

    def _index(self) -> tuple[list[bytes], list[Handle]]:
        footer = self._read(Handle(self.size - FOOTER, FOOTER)) if self.size >= FOOTER else b""
        if not footer.endswith(MAGIC):
            raise DamageError("it does not end with the footer of a table")
        _, at = _handle(memoryview(footer), 0)  # the meta index, which is always empty
        index, _ = _handle(memoryview(footer), at)
        keys, handles, free = [], [], 0
        for key, value in _entries(self._block(index)):
            handle, _ = _handle(value, 0)
            if handle.offset < free:
                raise DamageError("blocks of the table overlap")
            free = handle.offset + handle.size + TRAILER
            keys.append(key)
            handles.append(handle)
        if free > self.size - FOOTER:
            raise DamageError("the table is shorter than its index requires")
        return keys, handles

    def _block(self, handle: Handle) -> memoryview:
        """Returns the contents of a block, verified and decompressed."""
        if handle.offset + handle.size + TRAILER > self.size - FOOTER:
            raise DamageError(f"a block of {handle.size} bytes extends beyond the table")
        data = self._read(Handle(handle.offset, handle.size + TRAILER))
        checked = np.frombuffer(data, np.uint8)[:-4]
        if masked(crc32c(checked)) != int.from_bytes(data[-4:], "little"):
            raise DamageError(f"the checksum of the block at byte {handle.offset} does not match")
        body, compression = memoryview(data)[: handle.size], data[handle.size]
        if compression > 1:
            raise DamageError(f"a block has the unknown compression type {compression}")
        return memoryview(decompress(body)) if compression else body

    def _read(self, handle: Handle) -> bytes:
        self._file.seek(handle.offset)
        data = self._file.read(handle.size)
        if len(data) != handle.size:
            raise DamageError("the file was truncated while it was read")
        return data


def ends_as_table(path: Path) -> bool:
    """Whether a file exists and ends with the magic bytes of a table."""
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
    """Yields the entries of a block in the order of their keys.

    A key is stored without the prefix that it has in common with the previous key.

    Raises:
        DamageError: An entry extends beyond the block, or the keys are not in order.
    """
    if len(block) < 4:
        raise DamageError(f"a block of {len(block)} bytes is too short")
    restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 * (restarts + 1)
    if end < 0:
        raise DamageError(f"a block of {len(block)} bytes claims to have {restarts} restarts")
    # The complete keys are larger than the stored ones because of the common prefixes. As every
    # 16th key is stored completely, their total size is at most 16 times that of the block.
    room = RESTART_INTERVAL * len(block)
    key, at = b"", 0
    while at < end:
        first = at == 0
        shared, at = varint(block, at)
        fresh, at = varint(block, at)
        length, at = varint(block, at)
        if shared > len(key) or at + fresh + length > end:
            raise DamageError("an entry of a block extends beyond it")
        before, key = key, key[:shared] + bytes(block[at : at + fresh])
        room -= len(key)
        if (key <= before and not first) or room < 0:
            raise DamageError("the keys of a block are not in order")
        at += fresh
        yield key, block[at : at + length]
        at += length
