"""Writes a state dict in torch's zip format, which torch.load(weights_only=True) reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from forebear.weights.writers.overwrite import write_new


def write_torch(path: Path, arrays: Mapping[str, NDArray[Any]], *, replace: bool = False) -> None:
    """Writes arrays under their names, in their order. Equal arrays give identical bytes.

    Raises:
        WeightsError: The file exists and `replace` is not set, or it cannot be written.
    """
    # `_own` copies if necessary: torch does not support negative strides or read-only arrays.
    tensors = {name: torch.from_numpy(_own(array)) for name, array in arrays.items()}

    def write(partial: Path) -> None:
        with partial.open("wb") as file:  # given a path, torch would store its name in the archive
            torch.save(tensors, file)

    write_new(path, write, replace=replace)


def _own(array: NDArray[Any]) -> NDArray[Any]:
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return np.require(native, requirements=["C", "W"])
