"""Reads the objects in a binary Torch7 file: torch7's File.lua, Tensor.c and Storage.c.

Nothing is built but numbers, strings, tables and arrays. A class is only a name with its fields,
and a Lua function is skipped. The arrays stay in the file until they are used.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from forebear.limits import TORCH7_NESTING, TORCH7_OBJECTS
from forebear.text import truncated
from forebear.weights.readers.base import Array
from forebear.weights.readers.onnx.tensors import check_shape
from forebear.weights.readers.tensorflow.corruption import DamageError

_NIL, _NUMBER, _STRING, _TABLE, _OBJECT, _BOOLEAN, _FUNCTION = range(7)
_CLOSURES = (7, 8)  # functions with an index, of older and of newer versions
_DTYPES = {
    "Byte": "u1", "Char": "i1", "Short": "<i2", "Int": "<i4", "Long": "<i8", "Float": "<f4",
    "Double": "<f8", "Half": "<f2", "Cuda": "<f4", "CudaDouble": "<f8", "CudaHalf": "<f2",
}  # fmt: skip
_AXES = 8
_STRING_BYTES = 4096  # of a key, a class name or another string

Value = object  # None, bool, float, str, dict, Module or an array


@dataclass(slots=True, eq=False)
class Module:
    """An object of a class: its name, such as nn.Linear, and its fields."""

    kind: str
    fields: dict[object, Value] = field(default_factory=dict)
    _modules: list[Module] | None = field(default=None, init=False)

    def number(self, name: str, default: float) -> float:
        """Returns a field that is a number."""
        value = self.fields.get(name)
        return value if isinstance(value, float) else default

    def array(self, name: str) -> Array | None:
        """Returns a field that is an array with values."""
        value = self.fields.get(name)
        return value if isinstance(value, np.ndarray) and value.size else None

    @property
    def modules(self) -> list[Module]:
        """The modules in a container, in their order."""
        if self._modules is None:  # listed once, as a module may stand in many containers
            found = self.fields.get("modules")
            listed = items(found) if isinstance(found, dict) else []
            self._modules = [one for one in listed if isinstance(one, Module)]
        return self._modules


def items(table: dict[object, Value]) -> list[Value]:
    """Returns the values of a table with the keys 1, 2, 3 and so on."""
    found = list[Value]()
    while (key := float(len(found) + 1)) in table:
        found.append(table[key])
    return found


def read_object(data: memoryview) -> Value:
    """Returns the object in a file.

    Raises:
        DamageError: The file is damaged, or it has too many objects.
    """
    return _Reader(data).value(0)


class _Reader:
    """Reads one object after the other."""

    def __init__(self, data: memoryview) -> None:
        self._data, self._at, self._count = data, 0, 0
        self._known: dict[int, Value] = {}  # by their index in the file

    def value(self, depth: int) -> Value:
        """Returns the next object, which is in `depth` others."""
        self._count += 1
        if depth > TORCH7_NESTING or self._count > TORCH7_OBJECTS:
            raise DamageError(
                f"it has more than {TORCH7_OBJECTS:,} objects, or {TORCH7_NESTING} in one another"
            )
        kind = self._int()
        if kind == _NIL:
            return None
        if kind == _NUMBER:
            return float(self._unpacked("<d"))
        if kind == _STRING:
            return self._string()
        if kind == _BOOLEAN:
            return self._int() == 1
        if kind == _FUNCTION:
            self._skip_function(depth)
            return None
        if kind not in (_TABLE, _OBJECT, *_CLOSURES):
            raise DamageError(f"it has an object of the unknown type {kind}")
        index = self._int()
        if index in self._known:
            return self._known[index]
        if kind == _TABLE:
            return self._table(index, depth)
        if kind == _OBJECT:
            return self._object(index, depth)
        self._known[index] = None
        self._skip_function(depth)
        return None

    def _table(self, index: int, depth: int) -> dict[object, Value]:
        found: dict[object, Value] = {}
        self._known[index] = found
        for _ in range(self._size()):
            key = self.value(depth + 1)
            value = self.value(depth + 1)
            if isinstance(key, str | float):
                found[key] = value
        return found

    def _object(self, index: int, depth: int) -> Value:
        kind = self._string()
        if kind.startswith("V "):  # a version, and then the class
            kind = self._string()
        library, _, name = kind.partition(".")
        if library == "torch" and name.removesuffix("Tensor") in _DTYPES and name[-6:] == "Tensor":
            self._known[index] = None  # until it is whole
            self._known[index] = found = self._tensor(name.removesuffix("Tensor"), depth)
            return found
        if library == "torch" and name.removesuffix("Storage") in _DTYPES:
            self._known[index] = stored = self._storage(_DTYPES[name.removesuffix("Storage")])
            return stored
        module = Module(kind)
        self._known[index] = module
        inside = self.value(depth + 1)
        if isinstance(inside, dict):
            module.fields = inside
        return module

    def _tensor(self, kind: str, depth: int) -> Array:
        axes = self._int()
        if not 0 <= axes <= _AXES:
            raise DamageError(f"an array has {axes} axes")
        sides = [self._int("<q") for _ in range(axes)]
        steps = [self._int("<q") for _ in range(axes)]
        start = self._int("<q") - 1
        stored = self.value(depth + 1)
        dtype = np.dtype(_DTYPES[kind])
        if not axes or stored is None:
            return np.empty(0, dtype)
        check_shape("an array", sides)
        if not isinstance(stored, np.ndarray) or stored.ndim != 1 or stored.dtype != dtype:
            raise DamageError("an array has no values of its type")
        last = start + sum((side - 1) * step for side, step in zip(sides, steps, strict=True))
        if math.prod(sides) == 0:
            return np.empty(sides, dtype)
        if start < 0 or min(steps) < 0 or max(last + 1, math.prod(sides)) > len(stored):
            raise DamageError(f"an array of shape {truncated(str(sides))} ends after its values")
        strides = [step * dtype.itemsize for step in steps]
        return as_strided(stored[start:], sides, strides, writeable=False)

    def _storage(self, dtype: str) -> Array:
        kind = np.dtype(dtype)
        count = self._int("<q")
        if not 0 <= count <= len(self._data) // kind.itemsize:
            raise DamageError(f"an array of {count} values is larger than the file")
        return np.frombuffer(self._bytes(count * kind.itemsize), kind)

    def _skip_function(self, depth: int) -> None:
        """Skips the code of a function, and reads its variables, which others may refer to."""
        self._bytes(self._size())
        self.value(depth + 1)

    def _string(self) -> str:
        size = self._size()
        if size > _STRING_BYTES:  # such as a log that a trainer kept
            self._bytes(size)
            return ""
        return bytes(self._bytes(size)).decode("latin-1")

    def _size(self) -> int:
        size = self._int()
        if not 0 <= size <= len(self._data) - self._at:
            raise DamageError(f"something of size {size} extends beyond the end of the file")
        return size

    def _int(self, form: str = "<i") -> int:
        return int(self._unpacked(form))

    def _unpacked(self, form: str) -> Any:
        return struct.unpack(form, self._bytes(struct.calcsize(form)))[0]

    def _bytes(self, count: int) -> memoryview:
        start, self._at = self._at, self._at + count
        if self._at > len(self._data):
            raise DamageError("it ends in the middle of an object")
        return self._data[start : self._at]
