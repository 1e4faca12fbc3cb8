"""Arrays of MXNet's .params files are read in every version of the format, or refused."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from forebear.weights.readers.mxnet.ndarrays import MAGIC, read_arrays
from forebear.weights.readers.tensorflow.corruption import DamageError
from tests.weights.mxnet_making import GOLDENS, array, golden, listed, params

ARRAYS = {
    f"arg:{kind}": np.arange(6).reshape(2, 3).astype(kind)
    for kind in ("<f4", "<f8", "<f2", "u1", "<i4", "i1", "<i8", "?")
}
ONE = np.ones((2, 3), np.float32)


@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_every_version_and_type_is_read(version: int) -> None:
    found = read_arrays(memoryview(params(ARRAYS, version)))
    assert list(found) == list(ARRAYS)
    for name, wanted in ARRAYS.items():
        values = found[name].values(Path())
        assert (values.dtype, found[name].shape) == (wanted.dtype, (2, 3))
        assert np.array_equal(values, wanted)


def test_a_file_of_mxnet_is_written_as_here() -> None:
    arrays, _ = golden("v1_basic")
    assert params(arrays) == (GOLDENS / "v1_basic-0000.params").read_bytes()
    assert len(arrays) == 42


def test_bfloat16_and_arrays_without_axes_are_read() -> None:
    half = array(np.array([0x3FC0], "<u2").view("<f2"), 2, flag=12)  # 1.5
    single = array(np.array(3.0, np.float32), 3)
    found = read_arrays(memoryview(listed([half, single], ["a", "b"])))
    assert found["a"].values(Path()).tolist() == [1.5]
    assert found["b"].values(Path()).tolist() == 3.0


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x13" + params({"a": ONE})[1:], "does not start as a list of arrays"),
        (params({"a": ONE})[:-1], "it ends too early"),
        (params({"a": ONE})[:60], "it ends too early"),
        (listed([array(ONE, 2, storage=1)], ["a"]), "storage 1: it is sparse"),
        (listed([array(ONE, 2, flag=8)], ["a"]), "the type 8"),
        (listed([array(ONE, 2)], ["a", "b"]), "1 arrays and 2 names"),
        (listed([array(ONE, 2)] * 2, ["a", "a"]), "two of its arrays have one name"),
        (listed([array(ONE, 2)], ["a" * 2000]), "has 2,000 characters"),
        (listed([array(np.array(1.0, np.float32), 2)], ["a"]), "an array has 0 axes"),
        (listed([struct.pack("<I", 77)], ["a"]), "an array has 77 axes"),
        (MAGIC + bytes(8) + struct.pack("<Q", 2**60), "it says that it has 1,152,921"),
        (listed([struct.pack("<IiIqq", 0xF993FAC9, 0, 2, 2**40, 2**40)], ["a"]), "not possible"),
        (listed([struct.pack("<IiIq", 0xF993FAC9, 0, 1, -1)], ["a"]), "not possible"),
    ],
)
def test_damage_is_named(data: bytes, why: str) -> None:
    with pytest.raises(DamageError, match=why):
        read_arrays(memoryview(data))
