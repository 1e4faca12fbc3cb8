"""Arrays in an ONNX graph: TensorProto of onnx.proto3, whose values are read when they are used."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from forebear.limits import PARAMETERS
from forebear.text import truncated
from forebear.untrusted import opened
from forebear.weights.readers.base import Array
from forebear.weights.readers.tensorflow.corruption import DamageError
from forebear.weights.readers.tensorflow.protobuf import BYTES, Field, fields, varints

FLOAT, _BFLOAT16, _FLOAT16, _BOOL = 1, 16, 10, 9
# TensorProto.DataType: the dtype of the bytes in raw_data.
_STORED = {
    1: "<f4", 2: "u1", 3: "i1", 4: "<u2", 5: "<i2", 6: "<i4", 7: "<i8", _BOOL: "?",
    _FLOAT16: "<f2", 11: "<f8", 12: "<u4", 13: "<u8", _BFLOAT16: "<u2",
}  # fmt: skip
_FLOATS, _INTS32, _INTS64, _RAW, _DOUBLES, _UINTS64 = 4, 5, 7, 9, 10, 11  # fields with the values
LISTED = 64  # inputs, outputs or attributes of one node, and values of an attribute
_VARINT = 10  # bytes of an integer at most
_AXES = 8  # numpy has at most 64; a kernel has 4
_EXTERNAL = 1  # TensorProto.DataLocation


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """An array that is not read yet."""

    name: str
    shape: tuple[int, ...]
    kind: int  # TensorProto.DataType
    fields: tuple[Field, ...] = field(default=(), repr=False)  # with the values
    external: tuple[tuple[str, str], ...] = ()  # location, offset and length in another file
    fill: Tensor | None = None  # one value for the whole array, as of ConstantOfShape

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The dtype of the array: float32 for bfloat16."""
        kind = np.dtype(np.float32 if self.kind == _BFLOAT16 else _STORED[self.kind])
        return kind.newbyteorder("=")

    def values(self, folder: Path) -> Array:
        """Returns the array.

        Args:
            folder: The folder of the ONNX file. Files with values are only read there.

        Raises:
            DamageError: The values are not there, or their number is another.
            OSError: The file with the values cannot be read.
        """
        if self.fill is not None:
            return np.broadcast_to(self.fill.values(folder).reshape(()), self.shape)
        stored = np.dtype(_STORED[self.kind])
        found = self._external(folder, stored) if self.external else self.inside()
        if len(found) != math.prod(self.shape):
            raise DamageError(f"it has {len(found)} values instead of {math.prod(self.shape)}")
        if self.kind == _BFLOAT16:  # the upper half of a float32
            found = (found.astype(np.uint32) << 16).view(np.float32)
        return found.astype(self.dtype, copy=False).reshape(self.shape)

    def inside(self) -> Array:
        """Returns the values in the file itself, on one axis.

        Raises:
            DamageError: A value is cut.
        """
        stored = np.dtype(_STORED[self.kind])
        pieces: list[Array] = []
        for one in self.fields:
            packed = one.wire == BYTES
            if one.number == _RAW:
                size = len(one.message())
                if size % stored.itemsize:
                    raise DamageError(f"it has {size} bytes of {stored.itemsize} for each value")
                pieces.append(np.frombuffer(one.data, stored))
            elif one.number in (_FLOATS, _DOUBLES):
                kind = np.dtype("<f4" if one.number == _FLOATS else "<f8")
                if len(one.data) % kind.itemsize:
                    raise DamageError("its last value is cut")
                pieces.append(np.frombuffer(one.data, kind).astype(stored))
            else:
                numbers = _numbers(one.data) if packed else np.array([one.integer()], np.uint64)
                pieces.append(_narrow(numbers, stored, half=self.kind == _FLOAT16))
        return np.concatenate(pieces) if len(pieces) > 1 else (pieces or [np.empty(0, stored)])[0]

    def _external(self, folder: Path, stored: np.dtype[np.generic]) -> Array:
        said = dict(self.external)
        name = said.get("location", "")
        if not name or name != Path(name).name or "\\" in name or name in (".", ".."):
            raise DamageError(
                f"its values are in {truncated(repr(name))}, which is no name of a file in the "
                "same folder"
            )
        start, count = int(said.get("offset", "0")), math.prod(self.shape)
        length = int(said.get("length", count * stored.itemsize))
        if start < 0 or length != count * stored.itemsize:
            raise DamageError(f"it has {length} bytes for {count} values")
        with opened(folder / name, follow=False) as file:
            if os.fstat(file.fileno()).st_size < start + length:
                raise DamageError(f"{truncated(name)} ends before its values")
            file.seek(start)
            return np.frombuffer(file.read(length), stored)


def _numbers(data: memoryview) -> NDArray[np.uint64]:
    packed = np.frombuffer(data, np.uint8)
    return varints(packed, int(np.count_nonzero(packed < 0x80)))


def _narrow(numbers: NDArray[np.uint64], stored: np.dtype[np.generic], *, half: bool) -> Array:
    """Returns varints in the dtype of an array. Those of float16 are its bits."""
    if half:
        return numbers.astype("<u2").view("<f2")
    return numbers.view(np.int64).astype(stored)


def constant(name: str, values: Array) -> Tensor:
    """Returns a float32 array as the record of one; it is not copied if its bytes are in order."""
    stored = np.ascontiguousarray(values, "<f4")
    return in_rows(name, values.shape, FLOAT, memoryview(stored.data).cast("B"))


def in_rows(name: str, shape: tuple[int, ...], kind: int, values: memoryview) -> Tensor:
    """Returns the record of an array whose values lie in rows, as little-endian bytes."""
    return Tensor(name, shape, kind, (Field(_RAW, BYTES, values),))


def item_size(kind: int) -> int:
    """Returns the bytes of one value of a TensorProto.DataType."""
    return np.dtype(_STORED[kind]).itemsize


def tensor(message: memoryview) -> Tensor:
    """Returns the record of a TensorProto.

    Raises:
        DamageError: The message is damaged, or its type is none of numbers.
    """
    name, dims, kind, values, external, location = "", list[int](), 0, list[Field](), {}, 0
    for one in fields(message):
        if one.number == 1:
            dims += integers(one)
            if len(dims) > _AXES:
                raise DamageError(f"{truncated(name)}: a shape of {len(dims)} axes is not possible")
        elif one.number == 2:
            kind = one.integer()
        elif one.number == 8:
            name = text(one)
        elif one.number == 13:
            pair = {inner.number: text(inner) for inner in fields(one.message())}
            external[pair.get(1, "")] = pair.get(2, "")
        elif one.number == 14:
            location = one.integer()
        elif one.number in (_FLOATS, _INTS32, _INTS64, _RAW, _DOUBLES, _UINTS64):
            values.append(one)
    if kind not in _STORED:
        raise DamageError(f"{truncated(name)}: its type {kind} is not one of numbers")
    check_shape(name, dims)
    outside = tuple(external.items()) if location == _EXTERNAL else ()
    return Tensor(name, tuple(dims), kind, tuple(values), outside)


def check_shape(name: str, dims: list[int]) -> None:
    """Checks the shape of an array.

    Raises:
        DamageError: It has too many axes or values, or a negative side.
    """
    count = math.prod(dims) if len(dims) <= _AXES and all(side >= 0 for side in dims) else -1
    if not 0 <= count <= PARAMETERS:
        raise DamageError(f"{truncated(name)}: its shape {truncated(str(dims))} is not possible")


def integers(one: Field) -> list[int]:
    """Returns the values of an int64 field, which may be packed.

    Raises:
        DamageError: It has more values than an attribute may have.
    """
    if one.wire != BYTES:
        return [one.signed()]
    if len(one.data) > _VARINT * LISTED:  # before they take many times the memory of their bytes
        raise DamageError(f"it has a list of more than {LISTED} integers")
    return [int(value) for value in _numbers(one.data).view(np.int64)]


def text(one: Field) -> str:
    """Returns the value of a string field."""
    return bytes(one.message()).decode()
