"""Tables that are written are read back, whatever their sizes and keys."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from forebear.weights.readers.tensorflow.sstable import FOOTER, MAGIC, Table
from forebear.weights.writers.tensorflow.sstable import write_table


def written(entries: Mapping[bytes, bytes]) -> bytes:
    file = io.BytesIO()
    write_table(file, sorted(entries.items()))
    return file.getvalue()


def read(data: bytes, path: Path) -> dict[bytes, bytes]:
    """All entries in order; each is also found by its key."""
    path.write_bytes(data)
    table = Table(path)
    try:
        entries = {key: bytes(value) for key, value in table.items()}
        assert {key: bytes(table.get(key)) for key in entries} == entries
        return entries
    finally:
        table.close()


def keys(count: int) -> list[bytes]:
    """Keys as of variables, with long prefixes in common, and some that end in 0xff."""
    return [
        f"net/block{n // 40}/unit_{n % 7}/{n:06d}".encode() + b"\xff" * (n % 3)
        for n in range(count)
    ]


@pytest.mark.parametrize("count", [1, 15, 16, 17, 1000])
def test_entries_come_back_in_their_order(count: int, tmp_path: Path) -> None:
    entries = {key: bytes([n % 256]) * (n % 50) for n, key in enumerate(keys(count))}
    assert list(read(written(entries), tmp_path / "x").items()) == sorted(entries.items())


@pytest.mark.parametrize("size", [100_000, 262_143, 262_144, 300_000])
def test_blocks_end_where_they_are_full(size: int, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (7, size), dtype=np.uint8)
    entries = {key: value.tobytes() for key, value in zip(keys(7), values, strict=True)}
    data = written(entries)
    assert len(data) < 7 * size + 1000  # no block twice
    assert read(data, tmp_path / "x") == entries


@pytest.mark.parametrize(
    "neighbours",
    [(b"a", b"b"), (b"a", b"c"), (b"a\xff", b"b"), (b"a", b"a\x00"), (b"\xff", b"\xff\xff")],
)
def test_neighbouring_blocks_are_told_apart_by_their_keys(
    neighbours: tuple[bytes, bytes], tmp_path: Path
) -> None:
    full = bytes(1 << 18)  # a block of its own
    entries = dict(zip(neighbours, (full, full[:-1] + b"x"), strict=True))
    assert read(written(entries), tmp_path / "x") == entries


def test_a_prefix_is_written_once_in_sixteen_entries() -> None:
    prefix = b"p" * 1000
    entries = {prefix + bytes([n]): b"" for n in range(32)}
    data = written(entries)
    assert data.count(prefix) == 2
    assert len(data) < 2 * 1000 + 400


def test_an_empty_table_is_blocks_without_entries(tmp_path: Path) -> None:
    data = written({})
    assert data.endswith(MAGIC)
    assert len(data) == 2 * (8 + 5) + FOOTER  # meta index and index
    assert read(data, tmp_path / "x") == {}
