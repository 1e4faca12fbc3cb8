"""Flax files: names, shapes and values. tests/peers/test_flax.py has files of the library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forebear.weights.readers.detect import open_arrays
from forebear.weights.readers.flax.flax_file import FlaxArrays, is_flax
from tests.weights.flax_making import array_of, chunked, extension, packed
from tests.weights.readers.making import assert_same, damaged, refusal

COUNT = np.arange(6, dtype=np.float32).reshape(2, 3)


def put(folder: Path, content: Any) -> Path:
    path = folder / "a.msgpack"
    path.write_bytes(packed(content))
    return path


def put_array(folder: Path, inside: bytes) -> Path:
    """A file with one array of these bytes."""
    path = folder / "a.msgpack"
    path.write_bytes(b"\x81\xa1a" + extension(1, inside))
    return path


def test_names_have_no_collections_and_other_values_are_left_out(tmp_path: Path) -> None:
    content = {
        "step": 7,
        "params": {"conv_init": {"kernel": COUNT}},
        "batch_stats": {"conv_init": {"mean": COUNT[0]}},
        "opt_state": {"0": {"count": np.int32(3), "odd": None, "trace": [COUNT, {"b": COUNT}]}},
        "config": {"name": "a", "rate": 0.1, "on": True, "blob": b"abc"},
    }
    path = put(tmp_path, content)
    assert is_flax(path.read_bytes()[:512])
    with open_arrays(path) as arrays:
        assert isinstance(arrays, FlaxArrays)
        assert_same(
            arrays,
            {
                "conv_init/kernel": COUNT,
                "conv_init/mean": COUNT[0],
                "opt_state/0/count": np.array(3, np.int32),
                "opt_state/0/trace/0": COUNT,
                "opt_state/0/trace/1/b": COUNT,
            },
        )


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint8", "int16", "int64", "uint32", "float16", "float32", "float64"]
)
def test_every_dtype_and_empty_and_scalar_arrays(dtype: str, tmp_path: Path) -> None:
    wanted = {"a": COUNT.astype(dtype), "b": np.zeros((0, 3), dtype), "c": np.array(1, dtype)}
    with open_arrays(put(tmp_path, wanted)) as arrays:
        assert_same(arrays, wanted)
        arrays["a"][0, 0] = 1  # has memory of its own


def test_bfloat16_is_returned_as_float32(tmp_path: Path) -> None:
    upper = np.array([0x3F80, 0xC000, 0x7F80], np.uint16)
    path = put_array(tmp_path, array_of((3,), "bfloat16", upper.tobytes()))
    with open_arrays(path) as arrays:
        assert arrays.dtype("a") == arrays["a"].dtype == np.float32
        assert arrays["a"].tolist() == [1.0, -2.0, float("inf")]


@pytest.mark.parametrize("size", [1, 4, 6])
def test_chunks_are_joined(size: int, tmp_path: Path) -> None:
    with open_arrays(put(tmp_path, {"a": chunked(COUNT, size), "b": COUNT})) as arrays:
        assert_same(arrays, {"a": COUNT, "b": COUNT})


def test_a_map_of_many_entries_is_known(tmp_path: Path) -> None:
    wanted = {f"a{number}": COUNT for number in range(20)}
    with open_arrays(put(tmp_path, wanted)) as arrays:
        assert_same(arrays, wanted)


@pytest.mark.parametrize(
    ("inside", "why"),
    [
        (b"\x01", "not a shape, a dtype and values"),
        (packed([1, 2]), "not a shape, a dtype and values"),
        (array_of((2,), "float32", bytes(9)), "float32 [2] has 9 bytes"),
        (array_of((2**40, 2**40), "float32", bytes(8)), "has 8 bytes"),
        (array_of((-2,), "float32", bytes(8)), "not a list of sizes"),
        (array_of((True,), "int8", bytes(1)), "not a list of sizes"),
        (array_of([0] * 33, "int8", b""), "more than 36 values"),
        (array_of((1,), "object", bytes(8)), "has the dtype 'object', which is not read"),
        (array_of((1,), 5, bytes(8)), "has the dtype '5', which is not read"),
        (array_of((4,), "int8", "abcd"), "not bytes"),
        (array_of((1,), "int8", bytes(1)) + b"\0", "1 bytes after its value"),
    ],
)
def test_damaged_arrays_are_refused(inside: bytes, why: str, tmp_path: Path) -> None:
    assert why in refusal(put_array(tmp_path, inside))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"chunks": {"0": COUNT}}, "do not fill its shape"),
        ({"chunks": {"1": COUNT}}, "not numbered"),
        ({"chunks": None}, "not numbered"),
        ({"chunks": {}}, "have 0 dtypes"),
        ({"chunks": {"0": COUNT, "1": COUNT.astype("f8")}}, "have 2 dtypes"),
        ({"chunks": {"0": 5}}, "a chunk of an array is not an array"),
        ({"shape": {"0": -1}}, "not a list of sizes"),
        ({"shape": {"0": 2**40, "1": 2**40}}, "do not fill its shape"),
    ],
)
def test_damaged_chunks_are_refused(change: Any, why: str, tmp_path: Path) -> None:
    whole = chunked(np.tile(COUNT, 2), 6)
    assert why in refusal(put(tmp_path, {"a": whole | change}))


def test_other_msgpack_files_are_refused(tmp_path: Path) -> None:
    assert "has no arrays" in refusal(put(tmp_path, {"a": 1, "b": [2]}))
    clash = {"params": {"a": COUNT}, "batch_stats": {"a": COUNT}}
    assert "a: two arrays have this name" in refusal(put(tmp_path, clash))


def test_every_cut_is_refused(tmp_path: Path) -> None:
    whole = packed({"params": {"a": COUNT, "b": chunked(COUNT, 4)}})
    for end in range(1, len(whole)):
        (tmp_path / "a.msgpack").write_bytes(whole[:end])
        refusal(tmp_path / "a.msgpack")


@pytest.mark.parametrize("seed", range(50))
def test_mutations_are_read_or_refused(seed: int, tmp_path: Path) -> None:
    from tests.fuzzing import fault

    content = {"step": 7, "params": {"a": {"kernel": COUNT}}, "b": chunked(COUNT, 4), "c": [1.5]}
    assert fault("flax", damaged(packed(content), seed), tmp_path / "x") is None
