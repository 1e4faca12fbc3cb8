"""Hostile entries of V2 checkpoints are refused in one line, and nothing else happens."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from forebear.errors import WeightsError
from forebear.weights.readers.tensorflow.open import open_tensorflow
from forebear.weights.readers.tensorflow.tensor_records import slice_key
from forebear.weights.writers.tensorflow.protobuf import fixed32, message, number
from tests.weights.readers.tensorflow_making import (
    GOLDENS,
    SUM,
    V2,
    V2_DATA,
    copied,
    crc,
    entry,
    refusals,
    v2_of,
)

HALVES = [message(7, message(1, number(1, at), number(2, 2))) for at in (0, 2)]
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


def test_a_name_with_control_characters_stays_on_one_line(tmp_path: Path) -> None:
    v2_of({b"a\n\x1b[31mb": entry((4,), 16)}, tmp_path / "x", bytes(16))
    (said,) = refusals(tmp_path / "x")
    assert r"'a\n\x1b[31mb': the checksum" in said


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
