"""The values of tensors come from their place in the file."""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pytest
import torch

from forebear import WeightsError
from forebear.weights.readers.torch.pickle_values import Storage, Strided
from forebear.weights.readers.torch.storages import (
    LegacyStorages,
    ZipStorages,
    check_storage,
    read_tensor,
)
from tests.weights.readers.torch.making import rezip, save


def strided(*shape: int, kind: str = "Float", offset: int = 0, steps: str = "") -> Strided:
    strides = tuple(map(int, steps.split())) or tuple(
        int(np.prod(shape[place + 1 :])) for place in range(len(shape))
    )
    return Strided(Storage(kind, "0", 12), offset, shape, strides, kind)


def test_views_are_read_from_a_zip_archive(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", {"a": torch.arange(12.0)})
    storages = ZipStorages(path, "a state dict")
    assert storages.size("0") == 48
    assert read_tensor(storages, strided(2, 3, offset=4)).tolist() == [[4, 5, 6], [7, 8, 9]]
    assert read_tensor(storages, strided(2, 3, steps="1 4")).tolist() == [[0, 4, 8], [1, 5, 9]]
    assert read_tensor(storages, strided(4, offset=7, steps="0")).tolist() == [7] * 4
    assert read_tensor(storages, strided(0, 5)).shape == (0, 5)
    check_storage(storages, strided(3, 4))
    with pytest.raises(ValueError, match="its storage has 48 bytes, but it reaches to 52"):
        check_storage(storages, strided(3, 4, offset=1))
    other = Strided(Storage("Float", "9", 12), 0, (1,), (1,), "Float")
    with pytest.raises(ValueError, match="its storage is missing"):
        check_storage(storages, other)
    storages.close()


def test_big_endian_files_are_read(tmp_path: Path) -> None:
    values = np.arange(12, dtype=">f4")
    path = save(tmp_path / "a.pth", {"a": torch.arange(12.0)})
    rezip(path, {"byteorder": b"big", "data/0": values.tobytes()})
    storages = ZipStorages(path, "a state dict")
    found = read_tensor(storages, strided(12))
    assert found.dtype == np.dtype("f4")
    assert found.tolist() == values.tolist()
    storages.close()


def test_bfloat16_is_widened_without_change(tmp_path: Path) -> None:
    tensor = torch.tensor([1.0, -2.5, 3e38, float("inf"), 1e-40]).bfloat16()
    path = save(tmp_path / "a.pth", {"a": tensor})
    storages = ZipStorages(path, "a state dict")
    found = read_tensor(storages, strided(5, kind="BFloat16"))
    assert found.tobytes() == tensor.float().numpy().tobytes()
    storages.close()


def test_a_legacy_file_that_ends_early_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    stored = (3).to_bytes(8, "little") + np.arange(3, dtype="f4").tobytes()
    path.write_bytes(b"begin" + stored)
    storages = LegacyStorages(path, 5, [("0", 4)], "<")
    assert read_tensor(storages, strided(3)).tolist() == [0, 1, 2]
    storages.close()
    with pytest.raises(ValueError, match="ends before its storages do"):
        LegacyStorages(path, 5, [("0", 4), ("1", 4), ("2", 8)], "<")


def test_compressed_and_damaged_members_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", {"a": torch.ones(99)})
    data = path.read_bytes()
    path.write_bytes(data.replace(np.ones(3, "f4").tobytes(), bytes(12), 1))
    with pytest.raises(BadZipFile, match="CRC"):
        ZipStorages(path, "a state dict")
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="it is compressed"):
        ZipStorages(rezip(path, {}, method=8), "a state dict")
