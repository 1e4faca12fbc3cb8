from __future__ import annotations

import io
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest

from forebear.weights.readers.detect import open_arrays
from tests.weights.readers.making import Tempting, assert_same, refusal

ARRAYS = {
    "a/weights": np.arange(6, dtype="f4").reshape(2, 3),
    "turned": np.asfortranarray(np.arange(6, dtype="f8").reshape(2, 3)),
    "half": np.ones(3, "f2"),
    "step": np.array(123456789012),
    "empty": np.zeros((0, 3), "f4"),
    "flags": np.array([True, False]),
}


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_arrays_come_as_they_are(write: object, tmp_path: Path) -> None:
    assert callable(write)
    with (tmp_path / "a.ckpt").open("wb") as file:  # told by content
        write(file, **ARRAYS)
    with open_arrays(tmp_path / "a.ckpt") as arrays:
        assert arrays.format == "NumPy archive"
        assert list(arrays) == list(ARRAYS)
        assert_same(arrays, ARRAYS)


def header(shape: str, dtype: str = "'<f4'") -> bytes:
    text = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text = text.ljust(117) + b"\n"
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    "member",
    [
        header("(1000000, 1000000)") + bytes(100),
        header("(-1,)") + bytes(8),
        header("(3,)") + bytes(8),
        header("(1,)") + bytes(8),
        header("(1,)", "'|O'") + bytes(8),
        header("(1,)", "[('a', '<f4')]") + bytes(4),
        header("(1,)", "('<f4', (2,))") + bytes(8),
        header("__import__('os')") + bytes(4),
        header("(" * 500),
        b"\x93NUMPY\3\0" + bytes(20),
        b"not an array",
        b"",
    ],
)
def test_headers_that_do_not_fit_are_refused_by_name(member: bytes, tmp_path: Path) -> None:
    with ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("weights.npy", member)
    assert "weights" in refusal(tmp_path / "a.npz")


def test_objects_are_refused_and_nothing_runs(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    np.savez(tmp_path / "a.npz", a=np.array([Tempting(canary, "system")], object))
    assert "a: its dtype is object" in refusal(tmp_path / "a.npz")
    assert not canary.exists()


def test_a_bomb_is_refused_before_it_unpacks(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(50_000_000, "f4"))
    assert "claim to unpack to" in refusal(tmp_path / "a.npz")


def test_a_member_twice_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    array = io.BytesIO()
    np.save(array, np.ones(1))
    with ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", array.getvalue())
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.npy", array.getvalue())
    assert "two with the same name" in refusal(tmp_path / "a.npz")
    with ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("a.npy", array.getvalue())
        archive.writestr("notes.txt", b"")
    assert "a zip archive of a.npy, notes.txt" in refusal(tmp_path / "b.npz")


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.ones(1000))
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[5000] ^= 1
    (tmp_path / "a.npz").write_bytes(data)
    assert "a: cannot be read (Bad CRC-32" in refusal(tmp_path / "a.npz")
