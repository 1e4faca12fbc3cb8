"""Reads the arrays of an MXNet .params file: a list of arrays, then the list of their names.

The sources are NDArray::Save and NDArray::Load in src/ndarray/ndarray.cc, and kTypes in mshadow's
base.h. All numbers are little endian. An array is a number that tells its version, its storage and
shape, the device that it was on, its type, and its values in rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from forebear.limits import ARRAY_NAME, ARRAYS
from forebear.weights.readers.onnx.tensors import Tensor, check_shape, in_rows, item_size
from forebear.weights.readers.tensorflow.corruption import DamageError

MAGIC = b"\x12\x01\0\0\0\0\0\0"  # kMXAPINDArrayListMagic
# The versions: sides of 64 bits; a kind of storage; shapes of NumPy, which may be of no axes.
_V1, _V2, _V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_DENSE = 0  # kDefaultStorage; the others are sparse
_MOST_AXES = 8
# The type flags, as the numbers of ONNX's TensorProto.DataType.
_KINDS = {0: 1, 1: 11, 2: 10, 3: 2, 4: 6, 5: 3, 6: 7, 7: 9, 12: 16}


@dataclass(slots=True)
class _Bytes:
    """The rest of a file."""

    data: memoryview
    at: int = 0

    def take(self, size: int) -> memoryview:
        """Returns the next bytes."""
        if size > len(self.data) - self.at:
            raise DamageError("it ends too early")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, size: int, *, signed: bool = False) -> int:
        """Returns the next integer of `size` bytes."""
        return int.from_bytes(self.take(size), "little", signed=signed)


def read_arrays(data: memoryview) -> dict[str, Tensor]:
    """Returns the arrays of a file by name. Their values are not copied.

    Args:
        data: The whole file.

    Raises:
        DamageError: The file ends too early, or an array is sparse, empty or of an unknown type.
    """
    rest = _Bytes(data)
    if bytes(rest.take(len(MAGIC))) != MAGIC:
        raise DamageError("it does not start as a list of arrays")
    rest.take(8)  # reserved
    arrays = [_array(rest) for _ in range(_count(rest, "arrays"))]
    names = [_name(rest) for _ in range(_count(rest, "names"))]
    if len(names) != len(arrays):
        raise DamageError(f"it has {len(arrays)} arrays and {len(names)} names")
    if len(set(names)) != len(names):
        raise DamageError("two of its arrays have one name")
    return {
        name: in_rows(name, shape, kind, values)
        for name, (shape, kind, values) in zip(names, arrays, strict=True)
    }


def _count(rest: _Bytes, what: str) -> int:
    count = rest.number(8)
    if count > ARRAYS:
        raise DamageError(f"it says that it has {count:,} {what}, more than {ARRAYS:,}")
    return count


def _name(rest: _Bytes) -> str:
    length = rest.number(8)
    if length > ARRAY_NAME:
        raise DamageError(f"the name of an array has {length:,} characters")
    return bytes(rest.take(length)).decode()


def _array(rest: _Bytes) -> tuple[tuple[int, ...], int, memoryview]:
    """Returns shape, kind and values of the next array."""
    magic = rest.number(4)
    if magic in (_V2, _V3) and (storage := rest.number(4, signed=True)) != _DENSE:
        raise DamageError(f"an array has the storage {storage}: it is sparse")
    axes, side = (rest.number(4, signed=True), 8) if magic in (_V1, _V2, _V3) else (magic, 4)
    if not 0 <= axes <= _MOST_AXES or (axes == 0 and magic != _V3):
        raise DamageError(f"an array has {axes} axes")
    dims = [rest.number(side, signed=True) for _ in range(axes)]
    check_shape("an array", dims)
    rest.take(8)  # the kind and the number of a device
    flag = rest.number(4, signed=True)
    if flag not in _KINDS:
        raise DamageError(f"an array has the type {flag}, which is none of MXNet 1.9's")
    kind = _KINDS[flag]
    return tuple(dims), kind, rest.take(math.prod(dims) * item_size(kind))
