"""Types of HDF5 values: numbers and bfloat16 are read, others are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from forebear.weights.readers.detect import open_arrays
from tests.weights.readers.keras.making import legacy
from tests.weights.readers.making import (
    assert_same,
    refusal,
)

h5py = pytest.importorskip("h5py")  # to make odd files; reading needs none


def test_bfloat16_comes_as_float32(tmp_path: Path) -> None:
    path = tmp_path / "a.weights.h5"
    values = np.array([1.5, -0.40625, 3e38], "f4")
    with h5py.File(path, "w") as file:
        group = file.create_group("layers/dense/vars")
        bits = (values.view("u4") >> 16).astype("u2").view("V2")
        group.create_dataset("0", data=bits).attrs["dtype"] = "bfloat16"
        group["1"] = bits
    assert "dense/bias: its values have type opaque" in refusal(path)
    with h5py.File(path, "a") as file:
        del file["layers/dense/vars/1"]
    with open_arrays(path) as arrays:
        assert_same(arrays, {"dense/kernel": (values.view("u4") & 0xFFFF0000).view("f4")})


@pytest.mark.parametrize("dtype", [h5py.string_dtype(), h5py.ref_dtype, "S4", "c8", [("a", "f4")]])
def test_other_values_than_numbers_are_refused_by_name(dtype: object, tmp_path: Path) -> None:
    path = legacy(tmp_path / "a.h5", "conv1", {"kernel:0": None})
    with h5py.File(path, "a") as file:
        file["conv1"].create_dataset("kernel:0", (2,), dtype)
    assert "conv1/kernel: its values have type" in refusal(path)
