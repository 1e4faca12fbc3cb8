"""Damaged and hostile checkpoints are refused in one line, and nothing else happens."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from forebear.errors import WeightsError
from forebear.weights.readers.tensorflow.open import open_tensorflow
from forebear.weights.readers.tensorflow.sstable import FOOTER, MAGIC
from forebear.weights.readers.tensorflow.tensor_records import slice_key, whole
from forebear.weights.writers.tensorflow.protobuf import fixed32, message, number, varint
from tests.weights.readers.tensorflow_making import (
    GOLDENS,
    block,
    copied,
    crc,
    described,
    mended,
    read_all,
    refusals,
    saved,
    shape,
    table,
    v1,
    v1_of,
    v2_of,
)

V1 = GOLDENS / "odd.format_v1.ckpt"
V2 = GOLDENS / "odd.format_v2.ckpt"
V2_DATA = "odd.format_v2.ckpt.data-00000-of-00001"
V2_INDEX = "odd.format_v2.ckpt.index"


@pytest.fixture(autouse=True)
def soon() -> Iterator[None]:
    """Nothing takes long, whatever the damage."""
    start = time.monotonic()
    yield
    assert time.monotonic() - start < 20


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


WHOLE = whole((4,))
FOUR = message(5, np.zeros(4, np.float32).tobytes())
V1_ARRAYS: dict[str, Callable[[Path], Path]] = {
    "too few values": lambda path: v1_of(described((5,), [WHOLE]), {WHOLE: FOUR}, path),
    "too many values": lambda path: v1_of(described((3,), [WHOLE]), {WHOLE: FOUR}, path),
    "absurd shape": lambda path: v1_of(described((1 << 40, 1 << 20), [whole((1, 1))]), {}, path),
    "largest shape": lambda path: v1_of(described(((1 << 63) - 1,), [WHOLE]), {WHOLE: FOUR}, path),
    "absurd empty shape": lambda path: v1_of(
        described((0, 1 << 62, 1 << 62), [whole((1,) * 3)]), {}, path
    ),
    "negative shape": lambda path: v1_of(described(((1 << 64) - 4,), [WHOLE]), {WHOLE: FOUR}, path),
    "65 dimensions": lambda path: v1_of(described((1,) * 65, [whole((1,) * 65)]), {}, path),
    "slice of another shape": lambda path: v1_of(described((4, 4), [WHOLE]), {WHOLE: FOUR}, path),
    "slice out of shape": lambda path: v1_of(described((4,), [((1, 4),)]), {((1, 4),): FOUR}, path),
    "slice of negative length": lambda path: v1_of(
        described((4,), [((0, (1 << 64) - 2),)]), {WHOLE: FOUR}, path
    ),
    "slice at the end of numbers": lambda path: v1_of(
        described((4,), [(((1 << 63) - 1, (1 << 63) - 1),)]), {WHOLE: FOUR}, path
    ),
    "slice that is not there": lambda path: v1_of(described((4,), [WHOLE]), {}, path),
    "no slices": lambda path: v1_of(described((4,), []), {}, path),
    "slices with a hole": lambda path: v1_of(described((6,), [((0, 4),)]), {((0, 4),): FOUR}, path),
    "slices of an absurd whole": lambda path: v1_of(
        described((1 << 50,), [((0, 4),), ((8, 4),)]), {((0, 4),): FOUR, ((8, 4),): FOUR}, path
    ),
    "numbers that never end": lambda path: v1_of(
        described((4,), [WHOLE], kind=3), {WHOLE: message(7, b"\xff" * 100)}, path
    ),
    "a number too long": lambda path: v1_of(
        described((1,), [whole((1,))], kind=9),
        {whole((1,)): message(10, b"\xff" * 12 + b"\1")},
        path,
    ),
    "a number beyond its type": lambda path: v1_of(
        described((1,), [whole((1,))], kind=4), {whole((1,)): message(7, b"\xac\2")}, path
    ),
    "a truth of 2": lambda path: v1_of(
        described((1,), [whole((1,))], kind=10), {whole((1,)): message(11, b"\2")}, path
    ),
    "bits beyond a half": lambda path: v1_of(
        described((1,), [whole((1,))], kind=19), {whole((1,)): message(13, b"\xff\xff\7")}, path
    ),
    "floats as varints": lambda path: v1_of(
        described((1,), [whole((1,))]), {whole((1,)): number(5, 1 << 27)}, path
    ),
    "a field beyond its message": lambda path: v1_of(
        described((4,), [WHOLE]), {WHOLE: b"\x2a\x7f"}, path
    ),
    "a group": lambda path: v1_of(described((4,), [WHOLE]), {WHOLE: b"\x2b\x2c"}, path),
}


@pytest.mark.parametrize("what", V1_ARRAYS)
def test_a_hostile_array_of_v1_is_refused(tmp_path: Path, what: str) -> None:
    path = V1_ARRAYS[what](tmp_path / "x")
    tracemalloc.start()
    try:
        said = refusals(path)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
    assert len(said) == 1


def entry(sizes: tuple[int, ...], size: int, *more: bytes, kind: int = 1) -> bytes:
    return b"".join((number(1, kind), message(2, shape(sizes)), number(5, size), *more))


HALVES = [message(7, message(1, number(1, at), number(2, 2))) for at in (0, 2)]
SUM = fixed32(6, crc(bytes(16)))
V2_ENTRIES: dict[str, dict[bytes, bytes]] = {
    "fewer bytes than values": {b"a": entry((5,), 16, SUM)},
    "more bytes than values": {b"a": entry((3,), 16, SUM)},
    "bytes beyond the data": {b"a": entry((4,), 16, number(4, 1), SUM)},
    "an offset at the end of numbers": {b"a": entry((4,), 16, number(4, (1 << 64) - 1), SUM)},
    "an absurd shape": {b"a": entry((1 << 50,), 1 << 52, SUM)},
    "an absurd empty shape": {b"a": entry((0, 1 << 61, 1 << 61), 0)},
    "a wrong checksum": {b"a": entry((4,), 16)},
    "another data file": {b"a": entry((4,), 16, number(3, 1), SUM)},
    "a data file out of range": {b"a": entry((4,), 16, number(3, (1 << 64) - 1), SUM)},
    "slices that are not there": {b"a": entry((4,), 0, *HALVES)},
    "a slice of another type": {
        b"a": entry((4,), 0, *HALVES),
        slice_key("a", ((0, 2),)): entry((2,), 8),
        slice_key("a", ((2, 2),)): entry((2,), 8, kind=3),
    },
    "a slice of another shape": {
        b"a": entry((4,), 0, *HALVES),
        slice_key("a", ((0, 2),)): entry((3,), 12),
        slice_key("a", ((2, 2),)): entry((2,), 8),
    },
    "slices of an absurd whole": {
        b"a": entry((1 << 50,), 0, *HALVES),
        slice_key("a", ((0, 2),)): entry((2,), 8, fixed32(6, crc(bytes(8)))),
        slice_key("a", ((2, 2),)): entry((2,), 8, fixed32(6, crc(bytes(8)))),
    },
    "a slice out of shape": {b"a": entry((3,), 0, *HALVES)},
    "fields that are no message": {b"a": b"\x80"},
    "a shape that is a number": {b"a": number(2, 7)},
    "a type that is a message": {b"a": message(1)},
}


@pytest.mark.parametrize("what", V2_ENTRIES)
def test_a_hostile_entry_of_v2_is_refused_with_its_name(tmp_path: Path, what: str) -> None:
    v2_of(V2_ENTRIES[what], tmp_path / "x", bytes(16))
    tracemalloc.start()
    try:
        said = refusals(tmp_path / "x")
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
    assert len(said) == 1
    assert ": a: " in said[0]


@pytest.mark.parametrize("name", [b"a\0b", b"\xff\xfe", b"a" * 5000, b"\xed\xa0\x80"])
def test_names_that_are_none_are_refused(tmp_path: Path, name: bytes) -> None:
    v2_of({name: entry((4,), 16, SUM)}, tmp_path / "x", bytes(16))
    assert len(refusals(tmp_path / "x")) == 1
    v1_of(message(1, message(1, name), message(2, shape((4,))), number(3, 1)), {}, tmp_path / "y")
    assert len(refusals(tmp_path / "y")) == 1


def test_a_name_with_control_characters_stays_on_one_line(tmp_path: Path) -> None:
    v2_of({b"a\n\x1b[31mb": entry((4,), 16)}, tmp_path / "x", bytes(16))
    (said,) = refusals(tmp_path / "x")
    assert r"'a\n\x1b[31mb': the checksum" in said


def test_an_array_listed_twice_is_refused(tmp_path: Path) -> None:
    twice = described((4,), [WHOLE])
    (tmp_path / "x").write_bytes(table({b"": message(1, twice, twice), b"b": saved(WHOLE, FOUR)}))
    with pytest.raises(WeightsError, match="x: it lists 'a' twice"):
        open_tensorflow(tmp_path / "x")


@pytest.mark.parametrize(
    ("header", "what"),
    [
        (b"", "no header"),
        (number(2, 1), "big-endian"),
        (number(1, 1) + number(2, 1), "big-endian"),
        (b"\x08\x80", "varint"),
    ],
)
def test_a_hostile_header_is_refused(tmp_path: Path, header: bytes, what: str) -> None:
    v2_of({b"a": entry((4,), 16, SUM)}, tmp_path / "x", bytes(16), header)
    with pytest.raises(WeightsError, match=rf"x\.index: .*{what}"):
        open_tensorflow(tmp_path / "x")


def test_a_missing_data_file_is_named_with_an_array(tmp_path: Path) -> None:
    path = copied(GOLDENS / "slim_tiny_v2.format_v2_3shards.ckpt", tmp_path)
    Path(f"{path}.data-00001-of-00003").unlink()
    with pytest.raises(WeightsError, match=r"data-00001-of-00003: tiny_v2/\S+: its data file is m"):
        open_tensorflow(path)


def test_a_data_file_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    path = copied(V2, tmp_path)
    (tmp_path / V2_DATA).unlink()
    (tmp_path / V2_DATA).mkdir()
    assert len(refusals(path)) == 1


def test_data_files_of_any_number_are_looked_for_in_the_same_folder(tmp_path: Path) -> None:
    more = number(3, 5)
    v2_of({b"a": entry((4,), 16, more)}, tmp_path / "x", header=number(1, (1 << 63) + 1))
    with pytest.raises(WeightsError, match=r"x\.data-00005-of-9223372036854775809: a: its data"):
        open_tensorflow(tmp_path / "x")


def test_a_file_that_may_not_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = copied(V1, tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(WeightsError, match=r"cannot be read \(Permission denied\)\. Exp.* Check"):
        open_tensorflow(path)


def test_a_file_that_shrinks_while_it_is_open_is_refused(tmp_path: Path) -> None:
    path = copied(V2, tmp_path)
    with open_tensorflow(path) as arrays:
        (tmp_path / V2_DATA).write_bytes(b"")
        with pytest.raises(WeightsError, match=r"odd/int64: the file ends within its values"):
            arrays["odd/int64"]
    path = tmp_path / "x"
    path.write_bytes(v1({name: np.zeros(100_000, np.float32) for name in "ab"}))
    with open_tensorflow(path) as found:
        path.write_bytes(b"")
        with pytest.raises(WeightsError, match=r"x: b: the file was truncated while it was read"):
            found["b"]


def test_memory_that_is_not_there_is_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise MemoryError

    with open_tensorflow(copied(V2, tmp_path)) as arrays:
        monkeypatch.setattr(np, "empty", refuse)
        with pytest.raises(WeightsError, match="odd/int64: does not fit into memory"):
            arrays["odd/int64"]


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
