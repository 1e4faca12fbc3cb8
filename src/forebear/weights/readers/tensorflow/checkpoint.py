"""What the readers of TensorFlow's two formats have in common: names, shapes, slices joined."""

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
        """Takes what the checkpoint says of its arrays.

        Args:
            path: As the caller gave it.
            tensors: By name.
            most: Values that its files can hold; no array is made room for that claims more.
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
            # In the order of their keys, which is the file's: no block is read twice.
            parts = sorted(tensor.slices, key=lambda part: slice_key(name, part))
            if len(parts) == 1 and slice_shape(parts[0], tensor.shape) == tensor.shape:
                return kind.give(self._piece(name, parts[0], kind))
            if math.prod(tensor.shape) > self._most:
                raise DamageError(f"its shape {list(tensor.shape)} exceeds the file")
            pieces = ((part, self._piece(name, part, kind)) for part in parts)
            return kind.give(join(tensor.shape, kind.stored, pieces))

    def shape(self, name: str) -> tuple[int, ...]:
        """Known since the file was opened."""
        return self._tensors[name].shape

    def dtype(self, name: str) -> np.dtype[Any]:
        """Known since the file was opened; refused as the array itself would be."""
        return self._kind(name).given

    @abstractmethod
    def _piece(self, name: str, part: Slice, kind: Kind) -> Array:
        """Reads one slice of an array, in its own shape and as it is stored."""

    def _kind(self, name: str) -> Kind:
        number = self._tensors[name].kind
        if number not in KINDS:
            what = "strings" if number == STRING else f"values of TensorFlow's type {number}"
            raise refused(
                self.path,
                f"{truncated(name)}: holds {what}",
                "real numbers of a type that numpy has, or bfloat16",
                "Leave this array out.",
            )
        return KINDS[number]
