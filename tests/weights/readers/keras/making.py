"""Files of Keras 2 made by h5py."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

h5py = pytest.importorskip("h5py")  # to make odd files; reading needs none


def legacy(path: Path, layer: str, arrays: Mapping[str, object]) -> Path:
    """A Keras 2 file of one layer."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([layer.encode()])
        group = file.create_group(layer)
        group.attrs["weight_names"] = np.array([name.encode() for name in arrays])
        for name, array in arrays.items():
            if array is not None:
                group[name] = array
    return path
