from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from forebear import WeightsError
from forebear.weights.readers.detect import open_arrays
from forebear.weights.writers.torch_file import write_torch
from tests.weights.readers.making import assert_same

ARRAYS = {
    "conv1.weight": np.arange(6, dtype="f4").reshape(2, 3),
    "turned": np.arange(6, dtype="f4").reshape(2, 3).T,
    "backwards": np.arange(3, dtype="f4")[::-1],
    "half": np.ones(3, "f2"),
    "bn1.num_batches_tracked": np.array(3),
    "empty": np.zeros((0, 3), "f4"),
}


def test_torch_reads_what_is_written(tmp_path: Path) -> None:
    write_torch(tmp_path / "a.pth", ARRAYS)
    state = torch.load(tmp_path / "a.pth", weights_only=True)
    assert list(state) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert np.array_equal(state[name].numpy(), array)
        assert state[name].is_contiguous()


def test_what_is_written_is_read_back_bit_for_bit(tmp_path: Path) -> None:
    write_torch(tmp_path / "a.pth", ARRAYS)
    with open_arrays(tmp_path / "a.pth") as arrays:
        assert_same(arrays, ARRAYS)


def test_other_byte_orders_and_read_only_arrays_are_written(tmp_path: Path) -> None:
    array = np.arange(3, dtype=">f4")
    array.flags.writeable = False
    write_torch(tmp_path / "a.pth", {"a": array})
    with open_arrays(tmp_path / "a.pth") as arrays:
        assert_same(arrays, {"a": array.astype("f4")})


def test_equal_arrays_give_equal_bytes(tmp_path: Path) -> None:
    write_torch(tmp_path / "a.pth", ARRAYS)
    write_torch(tmp_path / "b.pth", ARRAYS)
    assert (tmp_path / "a.pth").read_bytes() == (tmp_path / "b.pth").read_bytes()


def test_a_file_that_is_there_stays_unless_asked(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    path.write_text("mine")
    with pytest.raises(WeightsError, match="this file already exists"):
        write_torch(path, ARRAYS)
    assert path.read_text() == "mine"
    write_torch(path, ARRAYS, replace=True)
    assert [found.name for found in tmp_path.iterdir()] == ["a.pth"]
