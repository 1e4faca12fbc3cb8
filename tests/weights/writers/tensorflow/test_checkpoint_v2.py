"""Checkpoints are written as TensorFlow writes them, whole or not at all."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from forebear.errors import WeightsError
from forebear.weights.readers.base import Array
from forebear.weights.readers.tensorflow.checkpoint_v2 import CheckpointV2
from forebear.weights.readers.tensorflow.open import open_tensorflow
from forebear.weights.readers.tensorflow.tensor_records import whole
from forebear.weights.writers.tensorflow import checkpoint_v2
from forebear.weights.writers.tensorflow.checkpoint_v2 import write_tensorflow
from tests.weights.readers.tensorflow_making import GOLDENS, read_all, shared

# tf.raw_ops.SaveV2 of TensorFlow 2.21.0 for `SMALL`.
SMALL_INDEX = (
    "00000608011a020801000f116e65742f636f6e762f62696173657308131206120012020804201835d8ea82a20907"
    "1377656967687473080112081202080212020803281835c0db3d1700040d73746570080912002018280835cdbdd7"
    "350000000001000000009e719e8b000000000100000000c0f2a1b0000102740065000000000100000000032963f2"
    "6a08770e00000000000000000000000000000000000000000000000000000000000000000000000057fb808b2475"
    "47db"
)
SMALL_DATA = "000000000000803f0000004000004040000080400000a040fbffffffffffffff"
SMALL: dict[str, Array] = {
    "net/conv/weights": np.arange(6, dtype=np.float32).reshape(2, 3),
    "net/conv/biases": np.zeros((0, 4), np.float16),
    "step": np.array(-5),
}


def assert_same(found: dict[str, Array], wanted: dict[str, Array]) -> None:
    assert list(found) == sorted(wanted)
    for name, array in found.items():
        assert (array.dtype, array.shape) == (wanted[name].dtype, wanted[name].shape), name
        assert array.tobytes() == wanted[name].tobytes(), name


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_the_bytes_are_those_that_tensorflow_writes(tmp_path: Path) -> None:
    write_tensorflow(tmp_path / "x", SMALL.items())
    assert contents(tmp_path) == {
        "x.index": bytes.fromhex(SMALL_INDEX),
        "x.data-00000-of-00001": bytes.fromhex(SMALL_DATA),
    }


@pytest.mark.parametrize("net", ["slim_tiny_v1", "slim_tiny_v2", "many"])
def test_goldens_written_again_are_the_same_files(tmp_path: Path, net: str) -> None:
    prefix = shared(f"{net}.format_v2.ckpt")
    with open_tensorflow(prefix) as arrays:
        assert isinstance(arrays, CheckpointV2)

        def offset(name: str) -> int:
            return arrays._places[name, whole(arrays.shape(name))].offset

        ordered = sorted(arrays, key=offset)  # as TensorFlow was given them
        write_tensorflow(tmp_path / prefix.name, ((name, arrays[name]) for name in ordered))
    for name, data in contents(tmp_path).items():
        assert data == (prefix.parent / name).read_bytes(), name


@pytest.mark.parametrize("name", ["odd.format_v2.ckpt", "slim_tiny_v2.format_v1.ckpt"])
def test_arrays_of_any_checkpoint_come_back(tmp_path: Path, name: str) -> None:
    arrays = read_all(GOLDENS / name)
    write_tensorflow(tmp_path / "x", reversed(arrays.items()))
    assert_same(read_all(tmp_path / "x"), arrays)


def test_arrays_in_any_memory_order_and_byte_order_come_back(tmp_path: Path) -> None:
    base = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    given: dict[str, Array] = {
        "fortran": np.asfortranarray(base),
        "strided": base[:, ::2, ::-1],
        "big": base.astype(">f4"),
        "locked": np.broadcast_to(base, (2, 2, 3, 4)),
        "\u00e9t\u00e9 \U0001f600": base.astype(np.uint64),
    }
    write_tensorflow(tmp_path / "x", given.items())
    wanted = {name: a.astype(a.dtype.newbyteorder("=")) for name, a in given.items()}
    assert_same(read_all(tmp_path / "x"), wanted)


def test_no_arrays_are_a_checkpoint_too(tmp_path: Path) -> None:
    write_tensorflow(tmp_path / "x", [])
    assert read_all(tmp_path / "x") == {}


def test_one_array_is_held_at_a_time(tmp_path: Path) -> None:
    def arrays() -> Iterator[tuple[str, Array]]:
        for number in range(10):
            yield f"a{number}", np.full(1_000_000, number, np.float32)

    tracemalloc.start()
    try:
        write_tensorflow(tmp_path / "x", arrays())
        assert tracemalloc.get_traced_memory()[1] < 9_000_000  # of 40: the last and the next
    finally:
        tracemalloc.stop()


def test_what_is_there_stays_unless_it_may_go(tmp_path: Path) -> None:
    write_tensorflow(tmp_path / "x", SMALL.items())
    before = contents(tmp_path)
    with pytest.raises(
        WeightsError, match=r"x\.index: this path already exists\. .*, or replace=True"
    ):
        write_tensorflow(tmp_path / "x", [])
    assert contents(tmp_path) == before
    write_tensorflow(tmp_path / "x", [("a", np.ones(2))], replace=True)
    assert list(read_all(tmp_path / "x")) == ["a"]


@pytest.mark.parametrize("taken", ["x.index", "x.data-00000-of-00001"])
def test_a_folder_is_never_replaced(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).mkdir()
    with pytest.raises(WeightsError, match=f"{taken}: this path already exists"):
        write_tensorflow(tmp_path / "x", SMALL.items(), replace=True)
    assert [file.name for file in tmp_path.iterdir()] == [taken]


class StoppedError(Exception):
    """What happens in the middle."""


def stopping() -> Iterator[tuple[str, Array]]:
    yield "a", np.ones(1_000_000)
    raise StoppedError


@pytest.mark.parametrize("there", [False, True])
def test_a_failure_in_the_middle_leaves_everything_as_it_was(tmp_path: Path, there: bool) -> None:
    if there:
        write_tensorflow(tmp_path / "x", SMALL.items())
    before = contents(tmp_path)
    with pytest.raises(StoppedError):
        write_tensorflow(tmp_path / "x", stopping(), replace=there)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("call", range(1, 3))
def test_a_failure_at_any_flush_leaves_no_new_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    calls = 0

    def fsync(_: int) -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(WeightsError, match=r"x: cannot be written \(No space left on device\)\."):
        write_tensorflow(tmp_path / "x", SMALL.items())
    assert contents(tmp_path) == {}


def test_data_without_an_index_are_taken_away_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = Path.replace

    def replace(file: Path, target: Path) -> Path:
        if target.suffix == ".index":
            raise OSError(5, "Input/output error")
        return put(file, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(WeightsError, match="cannot be written"):
        write_tensorflow(tmp_path / "x", SMALL.items())
    assert contents(tmp_path) == {}


def test_a_disk_that_changes_what_it_is_given_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_v2, "read_checked", lambda *_: 0)
    with pytest.raises(WeightsError, match=r"the written files read back differently \(a checks"):
        write_tensorflow(tmp_path / "x", SMALL.items())
    assert contents(tmp_path) == {}


def test_a_folder_that_is_not_there_is_a_refusal(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"cannot be written \(No such file or directory\)"):
        write_tensorflow(tmp_path / "none" / "x", SMALL.items())


ONE = np.ones(1)
UNFIT: dict[str, tuple[list[tuple[str, Array]], str]] = {
    "twice": ([("a", ONE), ("a", ONE)], "x: a: this name occurs twice"),
    "complex": ([("a", np.ones(1, complex))], "x: a: its dtype complex128 is not supported"),
    "objects": ([("a", np.array([None]))], "x: a: its dtype object is not supported"),
    "text": ([("a", np.array(["b"]))], "x: a: its dtype <U1 is not supported"),
    "fields": ([("a", np.zeros(1, [("x", "f4")]))], "x: a: its dtype"),
    "no name": ([("", ONE)], ": this name is not supported in a checkpoint"),
    "a NUL": ([("a\0b", ONE)], "this name is not supported in a checkpoint"),
    "half a surrogate": ([("\ud800", ONE)], "this name is not supported in a checkpoint"),
    "a long name": ([("a" * 2000, ONE)], "this name is not supported in a checkpoint"),
}


@pytest.mark.parametrize("what", UNFIT)
def test_what_a_checkpoint_cannot_hold_is_refused(tmp_path: Path, what: str) -> None:
    arrays, said = UNFIT[what]
    with pytest.raises(WeightsError) as caught:
        write_tensorflow(tmp_path / "x", arrays)
    assert said in str(caught.value)
    assert str(caught.value).isprintable()
    assert contents(tmp_path) == {}
