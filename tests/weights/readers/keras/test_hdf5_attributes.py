"""Attributes of HDF5 that hold names, in one piece or in several."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from forebear.weights.readers.detect import open_arrays

h5py = pytest.importorskip("h5py")  # to make odd files; reading needs none


def test_names_split_over_several_attributes_are_joined(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for part, layer in enumerate(("one", "two")):
            file.attrs[f"layer_names{part}"] = [layer]
            group = file.create_group(layer)
            group.attrs["weight_names0"] = [f"{layer}/kernel"]
            group.attrs["weight_names1"] = [f"{layer}/bias"]
            group[f"{layer}/kernel"], group[f"{layer}/bias"] = np.ones((2, 3)), np.zeros(3)
    with open_arrays(path) as arrays:
        assert list(arrays) == ["one/kernel", "one/bias", "two/kernel", "two/bias"]
