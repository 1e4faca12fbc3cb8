"""HDF5 files: what Keras writes is read, and anything else is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from forebear import WeightsError
from forebear.weights.readers.detect import open_arrays
from forebear.weights.readers.keras.hdf5 import Hdf5
from tests.weights.readers.keras.making import legacy
from tests.weights.readers.making import (
    assert_same,
    refusal,
)

h5py = pytest.importorskip("h5py")  # to make odd files; reading needs none


def test_a_user_block_big_endian_and_half_values_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", userblock_size=1024) as file:
        group = file.create_group("layers/dense/vars")
        group["0"] = np.arange(6, dtype=">f4").reshape(2, 3)
        group["1"] = np.arange(3, dtype="f2")
    with open_arrays(path) as arrays:
        wanted = np.arange(6, dtype="f4").reshape(2, 3)
        assert_same(arrays, {"dense/kernel": wanted, "dense/bias": np.arange(3, dtype="f2")})


def test_a_shape_beyond_the_file_is_refused_before_there_is_room_made(tmp_path: Path) -> None:
    path = legacy(tmp_path / "a.h5", "conv1", {"kernel:0": None})
    with h5py.File(path, "a") as file:
        file["conv1"].create_dataset("kernel:0", (10**6, 10**6), "f8")  # none of it written
    assert "conv1/kernel [1000000, 1000000]: it needs 8000000000000 bytes" in refusal(path)


def test_a_file_that_is_not_hdf5_is_refused_by_the_reader_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    path.write_bytes(bytes(3000))
    with pytest.raises(WeightsError, match="signature"):
        Hdf5(path)
