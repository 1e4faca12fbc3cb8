"""The bytes of an HDF5 file: found behind a user block, and read within a budget."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from forebear.weights.readers.keras.hdf5_bytes import SIGNATURE, STEP, Hdf5Bytes, find_hdf5


@pytest.mark.parametrize("place", [0, 512, 1024, 4096])
def test_the_signature_is_found_where_it_may_be(place: int, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(place) + SIGNATURE + bytes(3000))
    assert find_hdf5(tmp_path / "a") == place


@pytest.mark.parametrize("place", [1, 256, 1536])
def test_a_signature_elsewhere_is_none(place: int, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(place) + SIGNATURE + bytes(3000))
    assert find_hdf5(tmp_path / "a") is None
    (tmp_path / "a").write_bytes(b"")
    assert find_hdf5(tmp_path / "a") is None


def test_offsets_count_from_the_content() -> None:
    content = Hdf5Bytes(io.BytesIO(b"user" + bytes(range(10))), 4)
    assert content.size == 10
    assert content.read(3, 2) == b"\3\4"
    assert content.read(0, 10) == bytes(range(10))
    array = np.zeros((2, 2), "<u2")
    content.fill(array, 1)
    assert array.tobytes() == bytes(range(1, 9))


def test_bytes_beyond_the_end_are_refused() -> None:
    content = Hdf5Bytes(io.BytesIO(bytes(10)), 0)
    with pytest.raises(ValueError, match="^5 bytes at offset 6 are beyond the end of .* at 10$"):
        content.read(6, 5)
    with pytest.raises(ValueError, match="the file ends within its values"):
        content.fill(np.zeros(3, np.uint8), 8)


def test_every_read_and_step_takes_from_the_budget() -> None:
    content = Hdf5Bytes(io.BytesIO(bytes(100)), 0)
    budget = 4 * 100 + 100_000
    for _ in range(budget // (STEP + 100)):
        content.read(0, 100)
    left = budget % (STEP + 100)
    content.spend(left)
    with pytest.raises(ValueError, match="circular references or too many parts"):
        content.spend(1)
