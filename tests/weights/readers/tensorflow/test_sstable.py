"""Damaged and hostile tables are refused in one line, and nothing else happens."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from forebear.errors import WeightsError
from forebear.weights.readers.tensorflow.open import open_tensorflow
from forebear.weights.readers.tensorflow.sstable import FOOTER, MAGIC
from forebear.weights.readers.tensorflow.tensor_records import slice_key, whole
from forebear.weights.writers.tensorflow.protobuf import message, varint
from tests.weights.readers.tensorflow_making import (
    V1,
    V2,
    V2_DATA,
    block,
    copied,
    described,
    mended,
    read_all,
    refusals,
    saved,
)

V2_INDEX = "odd.format_v2.ckpt.index"


def flipped(data: bytes, at: int, bits: int) -> bytes:
    return data[:at] + bytes([data[at] ^ bits]) + data[at + 1 :]


def data_block(data: bytes) -> int:
    """The size of the one data block of a golden, which is followed by the empty meta block."""
    return data.index(block(bytes(4) + b"\1\0\0\0")) - 5


def index_block(data: bytes) -> tuple[int, int]:
    """Offset and size of a golden's index."""
    offset = data_block(data) + 5 + 8 + 5
    return offset, len(data) - FOOTER - 5 - offset


@pytest.mark.parametrize(("prefix", "name"), [(V1, V1.name), (V2, V2_INDEX), (V2, V2_DATA)])
def test_a_flipped_bit_is_found(tmp_path: Path, prefix: Path, name: str) -> None:
    path = copied(prefix, tmp_path)
    data = (tmp_path / name).read_bytes()
    rng = np.random.default_rng(0)
    for at in range(0, len(data), 2):
        (tmp_path / name).write_bytes(flipped(data, at, 1 << int(rng.integers(8))))
        said = refusals(path)
        # The footer's padding and the empty meta block say nothing, so nothing is lost with them.
        silent = name != V2_DATA and at >= data_block(data) + 5
        assert said or silent, at


@pytest.mark.parametrize(("prefix", "name"), [(V1, V1.name), (V2, V2_INDEX), (V2, V2_DATA)])
def test_a_cut_file_is_refused(tmp_path: Path, prefix: Path, name: str) -> None:
    path = copied(prefix, tmp_path)
    data = (tmp_path / name).read_bytes()
    for size in [*range(0, len(data), 5), len(data) - 1]:
        (tmp_path / name).write_bytes(data[:size])
        assert refusals(path), size


@pytest.mark.parametrize(("prefix", "name"), [(V1, V1.name), (V2, V2_INDEX)])
@pytest.mark.long
def test_damage_under_a_right_checksum_crashes_nothing(
    tmp_path: Path, prefix: Path, name: str
) -> None:
    path = copied(prefix, tmp_path)
    data = (tmp_path / name).read_bytes()
    rng = np.random.default_rng(1)
    for offset, size in ((0, data_block(data)), index_block(data)):
        for at in range(offset, offset + size):
            changed = flipped(data, at, int(rng.integers(1, 256)))
            (tmp_path / name).write_bytes(mended(changed, offset, size))
            refusals(path)


def test_noise_of_any_size_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    for size in range(0, 600, 7):
        noise = rng.integers(0, 256, size, dtype=np.uint8).tobytes()
        (tmp_path / "x").write_bytes(noise)
        assert refusals(tmp_path / "x")
        (tmp_path / "x").write_bytes(noise + MAGIC)
        assert refusals(tmp_path / "x")


def footed(blocks: bytes, index: tuple[int, int]) -> bytes:
    """A table of these blocks whose index stands at offset and size; its meta index is not read."""
    handles = varint(0) + varint(0) + varint(index[0]) + varint(index[1])
    return blocks + handles.ljust(FOOTER - len(MAGIC), b"\0") + MAGIC


def entries(*pairs: tuple[bytes, bytes]) -> bytes:
    """A block of whole keys."""
    body = b"".join(b"\0" + varint(len(k)) + varint(len(v)) + k + v for k, v in pairs)
    return body + bytes(4) + b"\1\0\0\0"


def handle(offset: int, size: int) -> bytes:
    return varint(offset) + varint(size)


def indexed(blocks: bytes, *pairs: tuple[bytes, bytes]) -> bytes:
    """A table of these blocks with an index of these entries."""
    index = entries(*pairs)
    return footed(blocks + block(index), (len(blocks), len(index)))


ONE = entries((b"", message(1)), (b"k", b"v"))
TABLES = {
    "no index": footed(b"", (0, 0)),
    "index beyond the file": footed(block(ONE), (10, 1 << 40)),
    "index at the end of numbers": footed(block(ONE), ((1 << 64) - 1, (1 << 64) - 1)),
    "handles without end": b"\xff" * (FOOTER - len(MAGIC)) + MAGIC,
    "block beyond the file": indexed(b"", (b"z", handle(1 << 50, 20))),
    "block of any size": indexed(block(ONE), (b"z", handle(0, 1 << 62))),
    "block that is the index": indexed(b"", (b"z", handle(0, 13))),
    "block that is in the index": footed(block(entries((b"z", handle(0, 14)))), (0, 14)),
    "one block twice": indexed(
        block(ONE), (b"y", handle(0, len(ONE))), (b"z", handle(0, len(ONE)))
    ),
    "handle without size": indexed(block(ONE), (b"z", b"\0")),
    "handle without end": indexed(block(ONE), (b"z", b"\x80" * 20)),
    "keys out of order": indexed(
        block(entries((b"", message(1)), (b"b", b""), (b"a", b""))), (b"z", handle(0, 33))
    ),
    "block without restarts": indexed(block(b""), (b"z", handle(0, 0))),
    "restarts out of range": indexed(block(b"\xff" * 8), (b"z", handle(0, 8))),
    "restarts beyond the block": indexed(block(b"\x02\0\0\0"), (b"z", handle(0, 4))),
    "shared beyond the key": indexed(block(b"\x05\0\0" + ONE[-8:]), (b"z", handle(0, 11))),
    "value beyond the block": indexed(block(b"\0\0\x7f" + ONE[-8:]), (b"z", handle(0, 11))),
    "lengths without end": indexed(block(b"\xff" * 40 + ONE[-8:]), (b"z", handle(0, 48))),
    "unknown compression": indexed(block(ONE, 2), (b"z", handle(0, len(ONE)))),
    "snappy that is none": indexed(block(ONE, 1), (b"z", handle(0, len(ONE)))),
    "snappy bomb": indexed(block(varint(1 << 40) + b"\0a", 1), (b"z", handle(0, 8))),
    "snappy bomb of its own size": indexed(
        block(varint(64 * 9000) + b"\0a" + b"\xfe\1\0" * 9000, 1), (b"z", handle(0, 27005))
    ),
    "no first entry": indexed(block(entries((b"a", b""))), (b"z", handle(0, 12))),
    "empty": indexed(b""),
}


@pytest.mark.parametrize("what", TABLES)
@pytest.mark.parametrize("name", ["x.ckpt", "x.ckpt.index"])
def test_a_hostile_table_is_refused(tmp_path: Path, what: str, name: str) -> None:
    (tmp_path / name).write_bytes(TABLES[what])
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError) as caught:
            open_tensorflow(tmp_path / "x.ckpt")
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
    assert str(caught.value).isprintable()
    assert name in str(caught.value)


def test_keys_that_grow_and_grow_are_refused(tmp_path: Path) -> None:
    long = 60_000
    body = bytearray(b"\0" + varint(long) + b"\0" + b"a" * long)
    for _ in range(100_000):  # each as long as the first and one more: 6 GB out of half a MB
        body += varint(long) + b"\1\0b"
        long += 1
    contents = bytes(body) + ONE[-8:]
    (tmp_path / "x").write_bytes(indexed(block(contents), (b"z", handle(0, len(contents)))))
    with pytest.raises(WeightsError, match="the keys of a block are not in order"):
        open_tensorflow(tmp_path / "x")


def test_a_compressed_table_is_read(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    values = np.tile(np.arange(8, dtype=np.float32), 500)
    part = whole(values.shape)
    contents = entries(
        (b"", message(1, described(values.shape, [part]))),
        (slice_key("a", part), saved(part, message(5, values.tobytes()))),
    )
    packed = arrow.compress(contents, codec="snappy", asbytes=True)
    (tmp_path / "x").write_bytes(indexed(block(packed, 1), (b"z", handle(0, len(packed)))))
    assert len(packed) < len(contents) / 5
    assert np.array_equal(read_all(tmp_path / "x")["a"], values)
