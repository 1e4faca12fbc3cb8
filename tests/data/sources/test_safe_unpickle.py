from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forebear.data.sources.safe_unpickle import unpickle_arrays
from forebear.errors import DataError


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


def test_damage_is_named() -> None:
    for content in (b"", b"words", pickle.dumps(np.zeros(9))[:-9], b"\x80\x02P1\n."):
        with pytest.raises(DataError, match="batch: not a readable pickle"):
            unpickle_arrays(content, "batch")
