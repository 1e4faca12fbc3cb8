"""The sorted table of TensorFlow's checkpoints, written byte for byte as TensorFlow writes it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import BinaryIO

import numpy as np

from forebear.weights.readers.crc32c import crc32c, masked
from forebear.weights.readers.table import FOOTER, MAGIC, RESTART_INTERVAL, Handle
from forebear.weights.writers.protobuf import varint

_BLOCK_SIZE = 256 << 10  # bytes at which a block is full; tensorflow/core/lib/io/table_options.h


def write_table(file: BinaryIO, entries: Iterable[tuple[bytes, bytes]]) -> None:
    """Writes entries, given in the order of their keys, as an uncompressed table."""
    index: list[tuple[bytes, bytes]] = []
    at, last, handle = 0, b"", b""
    for block in _blocks(entries):
        if handle:
            index.append((_between(last, block[0][0]), handle))
        at, handle = _put(file, at, _contents(block, RESTART_INTERVAL))
        last = block[-1][0]
    if handle:
        index.append((_after(last), handle))
    at, meta = _put(file, at, _contents([], RESTART_INTERVAL))
    _, handle = _put(file, at, _contents(index, 1))
    file.write((meta + handle).ljust(FOOTER - len(MAGIC), b"\0") + MAGIC)


def _blocks(entries: Iterable[tuple[bytes, bytes]]) -> Iterator[list[tuple[bytes, bytes]]]:
    """Entries in blocks, each closed by the one that fills it."""
    block: list[tuple[bytes, bytes]] = []
    for entry in entries:
        block.append(entry)
        if len(_contents(block, RESTART_INTERVAL)) >= _BLOCK_SIZE:
            yield block
            block = []
    if block:
        yield block
