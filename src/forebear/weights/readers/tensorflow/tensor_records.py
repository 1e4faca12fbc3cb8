"""Descriptions of arrays in a TensorFlow checkpoint: their types, shapes and slices.

Both formats use the same messages: DataType, TensorShapeProto and TensorSliceProto.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from forebear.weights.readers.base import Array
from forebear.weights.readers.tensorflow.corruption import DamageError
from forebear.weights.readers.tensorflow.protobuf import fields

_MOST_DIMENSIONS = 64  # numpy's limit
_MOST_BYTES = 1 << 62  # numpy's limit is 2^63 - 1, with dimensions of 0 counted as 1


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of values: its stored dtype, and its dtype in a returned array."""

    stored: np.dtype[Any]  # in the data files of V2; the values of V1 are converted to it
    field: int  # the field of TensorProto that holds the values in V1

    @property
    def given(self) -> np.dtype[Any]:
        """The dtype of a returned array: float32 for bfloat16, otherwise the stored dtype."""
        return np.dtype(np.float32) if self is BFLOAT16 else self.stored

    def give(self, stored: Array) -> Array:
        """Converts stored values to the dtype of a returned array, without rounding."""
        if self is not BFLOAT16:
            return stored
        wide = stored.astype(np.uint32)
        wide <<= 16  # bfloat16 is the upper half of a float32
        return wide.view(np.float32)


def _kind(stored: str, field: int) -> Kind:
    return Kind(np.dtype(stored), field)


BFLOAT16 = _kind("<u2", 13)
KINDS: Mapping[int, Kind] = MappingProxyType(  # by DataType; tensorflow/core/framework/types.proto
    {
        1: _kind("<f4", 5),
        2: _kind("<f8", 6),
        3: _kind("<i4", 7),
        4: _kind("|u1", 7),
        5: _kind("<i2", 7),
        6: _kind("|i1", 7),
        9: _kind("<i8", 10),
        10: _kind("|b1", 11),
        14: BFLOAT16,
        17: _kind("<u2", 7),
        19: _kind("<f2", 13),
        22: _kind("<u4", 16),
        23: _kind("<u8", 17),
    }
)
STRING = 7  # the DataType of strings, which are not supported


Slice = tuple[tuple[int, int], ...]  # (start, length) of each dimension; (0, FULL): all of it
FULL = -1


def name_of(data: bytes | memoryview) -> str:
    """Reads the name of an array."""
    try:
        name = bytes(data).decode()
    except UnicodeDecodeError as error:
        raise DamageError(f"a name of {len(data)} bytes is not UTF-8") from error
    if not name or "\0" in name:
        raise DamageError(f"a name of {len(data)} bytes is empty or contains a NUL")
    return name


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """The description of an array, without its values."""

    kind: int  # a DataType
    shape: tuple[int, ...]
    slices: tuple[Slice, ...]  # the stored slices; usually only `whole(shape)`


def shape_of(message: memoryview) -> tuple[int, ...]:
    """Reads a TensorShapeProto."""
    shape = []
    for field in fields(message):
        if field.number == 2:
            sizes = [part.signed() for part in fields(field.message()) if part.number == 1]
            shape.append(sizes[-1] if sizes else 0)
    if len(shape) > _MOST_DIMENSIONS:
        raise DamageError(f"its shape has {len(shape)} dimensions")
    if any(size < 0 for size in shape) or math.prod(max(1, n) for n in shape) * 8 > _MOST_BYTES:
        raise DamageError(f"its shape is {shape}")
    return tuple(shape)


def slice_of(message: memoryview, shape: tuple[int, ...]) -> Slice:
    """Reads a TensorSliceProto.

    Raises:
        DamageError: The slice extends beyond the shape.
    """
    part = []
    for field in fields(message):
        if field.number == 1:
            extent = {inner.number: inner.signed() for inner in fields(field.message())}
            part.append((extent.get(1, 0), extent.get(2, FULL)))
    if len(part) != len(shape) or not all(
        (start, length) == (0, FULL) or (min(start, length) >= 0 and start + length <= size)
        for (start, length), size in zip(part, shape, strict=True)
    ):
        raise DamageError(f"its slice {part} extends beyond its shape {list(shape)}")
    return tuple(part)


def whole(shape: tuple[int, ...]) -> Slice:
    """Returns the slice that is the complete array."""
    return ((0, FULL),) * len(shape)


def slice_shape(part: Slice, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the shape of a slice of an array with the given shape."""
    return tuple(
        size if length == FULL else length for (_, length), size in zip(part, shape, strict=True)
    )


def slice_key(name: str, part: Slice) -> bytes:
    """Returns the key of a slice in a table: TensorFlow's EncodeTensorNameSlice."""
    dimensions = bytes([1, len(part)]) if part else b"\x00"
    numbers = b"".join(_ordered(number) for extent in part for number in extent)
    # 00 and ff would be escaped. Names with 00 raise an error, and UTF-8 has no ff.
    return b"\x00" + name.encode() + b"\x00\x01" + dimensions + numbers


def _ordered(number: int) -> bytes:
    """Encodes an integer as bytes in the same order (OrderedCode::WriteSignedNumIncreasing)."""
    size = 1
    while not -(1 << 7 * size - 1) <= number < 1 << 7 * size - 1:
        size += 1
    ones = ((1 << size) - 1) << 7 * size  # one leading 1 per byte, inverted for negative numbers
    return (number % (1 << 8 * size) ^ ones).to_bytes(size, "big")


def join(
    shape: tuple[int, ...], stored: np.dtype[Any], pieces: Iterable[tuple[Slice, Array]]
) -> Array:
    """Joins the slices of an array, one at a time.

    Raises:
        DamageError: The slices do not cover the array.
    """
    joined = np.empty(shape, stored)
    written = np.zeros(shape, np.bool_)
    for part, piece in pieces:
        box = tuple(
            slice(start, size if length == FULL else start + length)
            for (start, length), size in zip(part, shape, strict=True)
        )
        joined[box] = piece
        written[box] = True
    if not written.all():
        raise DamageError(f"its slices do not cover its shape {list(shape)}")
    return joined
