from __future__ import annotations

import codecs
import os
import pickle
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forebear.errors import DataError
from forebear.safe_unpickle import unpickle_arrays


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_arrays_come_back(protocol: int) -> None:
    array = np.arange(12, dtype=np.uint8).reshape(3, 4)
    found = unpickle_arrays(
        pickle.dumps({"data": array, "none": b"", "n": [1, "x"]}, protocol), "f"
    )
    entries = {key.decode() if isinstance(key, bytes) else key: found[key] for key in found}
    np.testing.assert_array_equal(entries["data"], array)
    assert entries["none"] == b""


def test_a_batch_that_python_2_wrote_is_read() -> None:
    def text(content: bytes) -> bytes:  # opcode T: a str of Python 2
        return b"T" + struct.pack("<I", len(content)) + content

    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + text(b"b") + b"tR"
        b"(K\x01(K\x02K\x03tcnumpy\ndtype\n(" + text(b"u1") + b"K\x00K\x01tR"
        b"(K\x03" + text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"I00\n" + text(b"\x00\x7f\x80\xff\n'") + b"tb"
    )
    batch = b"\x80\x02}(" + text(b"data") + array + text(b"labels") + b"](K\x06K\x09eu."
    found = unpickle_arrays(batch, "data_batch_1")
    assert found[b"labels"] == [6, 9]
    assert found[b"data"].tolist() == [[0, 127, 128], [255, 10, 39]]


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_functions_are_named_and_not_run(protocol: int, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    hostile = {
        "system": Call(os.system, f"touch {canary}"),
        "eval": Call(eval, f"open({str(canary)!r}, 'w')"),
        "getattr": Call(getattr, "x", "upper"),
        "load": Call(np.load, str(canary)),
    }
    for name, call in hostile.items():
        content = pickle.dumps({"data": call}, protocol)
        with pytest.raises(
            DataError, match=rf"batch: the pickle refers to \w+\.{name}, which was not run"
        ):
            unpickle_arrays(content, "batch")
    assert not canary.exists()


def test_attributes_of_what_is_allowed_are_out_of_reach() -> None:
    dotted = b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93."
    with pytest.raises(DataError, match=r"numpy\.ndarray\.__init__"):
        unpickle_arrays(dotted, "batch")


def doubled(times: int) -> bytes:
    """A dict with a key of nested tuples, whose hash takes 2 ** times steps."""
    steps = (bytes((*b"q", place, *b"h", place, *b"\x86")) for place in range(times))
    return b"\x80\x02})" + b"".join(steps) + b"K\x01s."


HOSTILE = {  # from files of some bytes: gigabytes, or no end
    "memo": b"\x80\x02]r\xff\xff\xff\x0a\x94h\x07.",
    "bytes": pickle.dumps(Call(bytes, 4 * 10**9), 2),
    "hex": pickle.dumps(Call(codecs.encode, b"ab", "hex"), 4),
    "array": pickle.dumps(Call(np.ndarray, (4 * 10**9,)), 2),
    "key": doubled(60),
    "text": pickle.dumps({"data": Call(np.dtype, [("a", "u1", (4 * 10**9,))])}, 4),
    "number": pickle.dumps({1: 2}, 2),
    "objects": pickle.dumps(np.array([None]), 2),
    "set": pickle.dumps({1, 2}, 4),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_small_pickle_takes_neither_memory_nor_time(name: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="batch: not a readable pickle"):
            unpickle_arrays(HOSTILE[name], "batch")
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    finally:
        tracemalloc.stop()


def test_the_number_of_instructions_is_limited() -> None:
    with pytest.raises(DataError, match="more than 2,000,000 instructions"):
        unpickle_arrays(b"N" * 2_000_001 + b".", "batch")


def test_types_of_numpy_stay_as_they_are() -> None:
    """The state of a dtype that numpy shares is not changed by a file."""
    shared = (
        b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00i4\x89\x89\x87R(K\x03X\x01\x00\x00\x00>NNN"
        b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb."
    )
    assert unpickle_arrays(shared, "batch") == np.dtype(">i4")
    assert np.dtype("i4").isnative


def test_an_array_that_is_used_twice_comes_back_twice() -> None:
    array = np.asfortranarray(np.arange(6, dtype=">i4").reshape(2, 3))
    found = unpickle_arrays(pickle.dumps([array, array], 2), "batch")
    for one in found:
        np.testing.assert_array_equal(one, array)


def test_damage_is_named() -> None:
    for content in (b"", b"words", pickle.dumps(np.zeros(9))[:-9], b"\x80\x02P1\n."):
        with pytest.raises(DataError, match="batch: not a readable pickle"):
            unpickle_arrays(content, "batch")
