"""Reads TensorFlow V1 checkpoints: one table that stores the values in messages.

The entry with the empty key describes all arrays. Each slice of an array is a separate entry, whose
TensorProto contains only the values. The format is defined in
tensorflow/core/util/saved_tensor_slice.proto.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from forebear.weights.readers.base import Array
from forebear.weights.readers.tensorflow.checkpoint import Checkpoint
from forebear.weights.readers.tensorflow.corruption import DamageError
from forebear.weights.readers.tensorflow.protobuf import (
    BYTES,
    FIXED32,
    FIXED64,
    VARINT,
    fields,
    varints,
)
from forebear.weights.readers.tensorflow.snappy import MOST_OUT_OF_A_BYTE
from forebear.weights.readers.tensorflow.sstable import Table
from forebear.weights.readers.tensorflow.tensor_records import (
    BFLOAT16,
    Kind,
    Slice,
    Tensor,
    name_of,
    shape_of,
    slice_key,
    slice_of,
    slice_shape,
)

_FLOAT, _DOUBLE = 5, 6  # fields of TensorProto that are not varints


class CheckpointV1(Checkpoint):
    """The arrays of a V1 file. Each one is looked up in the table when it is accessed."""

    format = "TensorFlow checkpoint V1"

    def __init__(self, path: Path, table: Table) -> None:
        """Reads the descriptions of the arrays. `close` also closes the table.

        Raises:
            DamageError: The descriptions are damaged.
        """
        super().__init__(path, _tensors(table.get(b"")), MOST_OUT_OF_A_BYTE * table.size)
        self._table = table

    def close(self) -> None:
        """Closes the table."""
        self._table.close()

    def _piece(self, name: str, part: Slice, kind: Kind) -> Array:
        shape = slice_shape(part, self.shape(name))
        values = bytearray()
        wire = {_FLOAT: FIXED32, _DOUBLE: FIXED64}.get(kind.field, VARINT)
        for entry in fields(self._table.get(slice_key(name, part))):
            for saved in fields(entry.message()) if entry.number == 2 else ():
                for field in fields(saved.message()) if saved.number == 3 else ():
                    if field.number == kind.field:
                        if field.wire not in (BYTES, wire):
                            raise DamageError(f"its values have wire type {field.wire}")
                        values += field.data  # packed or not, the bytes are the same
        return _decode(values, kind, math.prod(shape)).reshape(shape)


def _decode(values: bytearray, kind: Kind, count: int) -> Array:
    """Decodes the values of a packed field. Numbers of fixed size are not copied."""
    if kind.field in (_FLOAT, _DOUBLE):
        if len(values) != count * kind.stored.itemsize:
            raise DamageError(f"it has {len(values)} bytes for {count} values")
        return np.frombuffer(values, kind.stored)
    numbers = varints(np.frombuffer(values, np.uint8), count)
    bits = kind is BFLOAT16 or kind.stored.kind == "f"
    held = np.dtype(np.uint16) if bits else kind.stored
    if held.kind == "i":
        numbers = numbers.view(np.int64)
    least, most = (0, 1) if held.kind == "b" else (np.iinfo(held).min, np.iinfo(held).max)
    if count and not (least <= numbers.min() and numbers.max() <= most):
        raise DamageError(f"a value is out of the range of {held}")
    return numbers.astype(held).view(kind.stored)


def _tensors(message: memoryview) -> dict[str, Tensor]:
    """Reads the SavedTensorSliceMeta in the first entry."""
    tensors: dict[str, Tensor] = {}
    for entry in fields(message):
        for field in fields(entry.message()) if entry.number == 1 else ():
            if field.number == 1:
                name, tensor = _tensor(field.message())
                if name in tensors:
                    raise DamageError(f"it lists {name!r:.100} twice")
                tensors[name] = tensor
    return tensors


def _tensor(message: memoryview) -> tuple[str, Tensor]:
    """Reads a SavedSliceMeta."""
    found = list(fields(message))
    parts = {field.number: field for field in found}
    if not parts.keys() >= {1, 2, 3}:
        raise DamageError(f"the description of an array has only the fields {sorted(parts)}")
    shape = shape_of(parts[2].message())
    slices = tuple(slice_of(field.message(), shape) for field in found if field.number == 4)
    name = name_of(parts[1].message())
    return name, Tensor(kind=parts[3].integer(), shape=shape, slices=slices)
