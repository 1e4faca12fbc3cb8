"""Zip archives whose directory, members or sizes are not torch's are refused."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import torch

from forebear.weights.readers.detect import open_arrays
from tests.weights.readers.making import (
    assert_same,
    golden,
    refusal,
)
from tests.weights.readers.torch.making import rezip, save


def test_a_flipped_bit_in_the_values_is_found(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", {"a": torch.ones(1000)})
    data = bytearray(path.read_bytes())
    data[data.index(b"\x00\x00\x80\x3f") + 400] ^= 1
    path.write_bytes(data)
    assert "CRC-32" in refusal(path)


def test_an_archive_without_checksums_is_read(tmp_path: Path) -> None:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        path = save(tmp_path / "a.pth", {"a": torch.ones(3)})
    finally:
        torch.serialization.set_crc32_options(before)
    with open_arrays(path) as arrays:
        assert_same(arrays, {"a": np.ones(3, "f4")})


def test_compressed_members_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", {"a": torch.zeros(1000)})
    assert "compressed" in refusal(rezip(path, {}, ZIP_DEFLATED))


def test_members_that_differ_in_case_alone_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", {"a": torch.zeros(10)})
    assert "differ only in case" in refusal(rezip(path, {"DATA.pkl": b""}))


def test_a_second_directory_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", {"a": torch.zeros(10)})
    data = path.read_bytes()
    path.write_bytes(data + data[-22:])
    refusal(path)
    path.write_bytes(data[:64] + data)  # moved: Python's zipfile would make up for it
    refusal(path)


def test_an_archive_that_would_fill_the_disk_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.keras"
    with ZipFile(path, "w", 8) as archive:
        archive.writestr("model.weights.h5", bytes(200 * 2**20))
    assert "claim to unpack to 209715200" in refusal(path)


def test_a_flipped_bit_in_an_archive_is_found(tmp_path: Path) -> None:
    path = golden("keras3.keras", tmp_path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert "CRC-32" in refusal(path)
