"""The common base of the readers of both TensorFlow formats: names, shapes and joining slices."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from forebear.text import truncated
from forebear.weights.readers.base import Array, Arrays
from forebear.weights.readers.errors import check_names, refused
from forebear.weights.readers.tensorflow.corruption import DamageError, blame
from forebear.weights.readers.tensorflow.tensor_records import (
    KINDS,
    STRING,
    Kind,
    Slice,
    Tensor,
    join,
    slice_key,
    slice_shape,
)


class Checkpoint(Arrays):
    """The arrays of a TensorFlow checkpoint, in the order of their names in bytes."""

    def __init__(self, path: Path, tensors: Mapping[str, Tensor], most: int) -> None:
        """Stores the descriptions of the arrays.

        Args:
            path: The path as passed by the caller.
            tensors: The descriptions by name.
            most: The maximum number of values in the files. No memory is allocated for an array
                that claims to have more.
        """
        check_names(path, tensors)
        self.path = path
        self._tensors = {name: tensors[name] for name in sorted(tensors)}
        self._most = most

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __getitem__(self, name: str) -> Array:
        tensor = self._tensors[name]
        kind = self._kind(name)
        with blame(self.path, name):
            # The order of the keys is that of the file, so no block is read twice.
            parts = sorted(tensor.slices, key=lambda part: slice_key(name, part))
            if len(parts) == 1 and slice_shape(parts[0], tensor.shape) == tensor.shape:
                return kind.give(self._piece(name, parts[0], kind))
            if math.prod(tensor.shape) > self._most:
                raise DamageError(f"its shape {list(tensor.shape)} is too large for the file")
            pieces = ((part, self._piece(name, part, kind)) for part in parts)
            return kind.give(join(tensor.shape, kind.stored, pieces))

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns the shape of an array."""
        return self._tensors[name].shape

    def dtype(self, name: str) -> np.dtype[Any]:
        """Returns the dtype of an array.

        Raises:
            WeightsError: The type of the array is not supported.
        """
        return self._kind(name).given

    @abstractmethod
    def _piece(self, name: str, part: Slice, kind: Kind) -> Array:
        """Reads one slice of an array, with the shape and the dtype of the slice as stored."""

    def _kind(self, name: str) -> Kind:
        number = self._tensors[name].kind
        if number not in KINDS:
            what = "strings" if number == STRING else f"values of TensorFlow's type {number}"
            raise refused(
                self.path,
                f"{truncated(name)}: it holds {what}",
                "real numbers of a type that numpy supports, or bfloat16",
                "Do not read this array.",
            )
        return KINDS[number]
