"""Opens a Flax file of JAX: nested maps of arrays in msgpack.

flax/serialization.py writes an array as an extension of type 1 that holds msgpack again: the
shape, the name of the dtype, and the values in rows. Scalars of NumPy have type 3. An array of more
than 2^30 bytes is a map with its shape and its chunks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from forebear.text import truncated
from forebear.weights.readers.base import Array
from forebear.weights.readers.errors import check_names, reading, refused
from forebear.weights.readers.flax.msgpack import Extension, Value, unpack
from forebear.weights.readers.graph_file import mapped
from forebear.weights.readers.indexed import Listed
from forebear.weights.readers.tensorflow.corruption import DamageError

EXPECTED = "a whole Flax file with arrays by name, as flax.serialization.to_bytes writes"
COLLECTIONS = ("params", "batch_stats")  # of the variables of a network
_ARRAY, _SCALAR = 1, 3  # types of extensions; 2 is a complex number
_CHUNKED = "__msgpack_chunked_array__"
_AXES = 32
_DTYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64",
)  # fmt: skip
_BFLOAT16 = "bfloat16"  # the upper half of a float32


@dataclass(frozen=True, slots=True)
class FlaxTensor:
    """An array in the file, in one piece or in several."""

    shape: tuple[int, ...]
    stored: str  # the dtype's name in Flax
    pieces: tuple[memoryview, ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype in which the array is returned."""
        return np.dtype(np.float32 if self.stored == _BFLOAT16 else self.stored)

    def values(self) -> Array:
        """Returns the array, which has memory of its own."""
        kind = np.dtype("<u2") if self.stored == _BFLOAT16 else self.dtype.newbyteorder("<")
        flat = np.concatenate([np.frombuffer(piece, kind) for piece in self.pieces])
        if self.stored == _BFLOAT16:
            flat = (flat.astype(np.uint32) << 16).view(np.float32)
        return flat.astype(self.dtype, copy=False).reshape(self.shape)


class FlaxArrays(Listed[FlaxTensor]):
    """The arrays of a Flax file, which stays open.

    Their names have no collections: `params/conv_init/kernel` is `conv_init/kernel`, and so the
    arrays of one layer are together.
    """

    expected = EXPECTED
    format = "Flax file"

    def __init__(self, path: Path) -> None:
        """Reads the names, shapes and dtypes, and no values.

        Raises:
            WeightsError: The file is damaged, or holds no arrays.
        """
        self.path = path
        with reading(path, EXPECTED):
            found = list(_arrays(unpack(mapped(path)), ()))
            check_names(path, (name for name, _ in found))
            self.entries = dict(found)
        if not found:
            raise refused(path, "this msgpack file has no arrays", EXPECTED, "Pass another file.")

    def read(self, name: str, entry: FlaxTensor) -> Array:
        """Reads an array."""
        return entry.values()

    def close(self) -> None:
        """Does nothing: the file is closed when the last array is gone."""


def is_flax(start: bytes) -> bool:
    """Whether a file with these first bytes may be a Flax file: a map, and a string as a key."""
    fixed = 0x81 <= start[0] <= 0x8F
    key = start[1:] if fixed else start[3:] if start[0] == 0xDE else b""
    name = key[1 : 1 + (key[0] & 0x1F)] if key and 0xA1 <= key[0] <= 0xBF else b""
    return bool(name) and all(0x20 <= letter < 0x7F for letter in name)


def _arrays(value: Value, path: tuple[str, ...]) -> Iterator[tuple[str, FlaxTensor]]:
    """Yields the names and the arrays in nested maps and lists."""
    if isinstance(value, list):
        value = {str(number): one for number, one in enumerate(value)}
    if isinstance(value, dict):
        if _CHUNKED in value:
            yield _name(path), _joined(value)
        else:
            for key, one in value.items():
                yield from _arrays(one, (*path, key))
    elif isinstance(value, Extension) and value.kind in (_ARRAY, _SCALAR):
        yield _name(path), _tensor(value)


def _name(path: tuple[str, ...]) -> str:
    return "/".join(key for key in path if key not in COLLECTIONS)


def _tensor(value: Value) -> FlaxTensor:
    """Returns the array in an extension."""
    if not isinstance(value, Extension) or value.kind not in (_ARRAY, _SCALAR):
        raise DamageError("a chunk of an array is not an array")
    parts = unpack(value.data, _AXES + 4)
    if not isinstance(parts, list) or len(parts) != 3:
        raise DamageError("an array is not a shape, a dtype and values")
    sizes, kind, content = parts
    if not isinstance(kind, str) or kind not in (*_DTYPES, _BFLOAT16):
        raise DamageError(f"an array has the dtype {truncated(kind)!r}, which is not read")
    shape = _shape(sizes)
    if not isinstance(content, memoryview):  # written with str for bytes by msgpack before 1.0
        raise DamageError("the values of an array are not bytes")
    each = 2 if kind == _BFLOAT16 else np.dtype(kind).itemsize
    if math.prod(shape) * each != len(content):
        what = f"an array of {kind} {truncated(list(shape))} has {len(content):,} bytes"
        raise DamageError(what)
    return FlaxTensor(shape, kind, (content,))


def _joined(value: dict[str, Value]) -> FlaxTensor:
    """Returns the array in a map with its chunks."""
    chunks = [_tensor(one) for one in _listed(value.get("chunks"))]
    shape = _shape(_listed(value.get("shape")))
    kinds = {chunk.stored for chunk in chunks}
    if len(kinds) != 1:
        raise DamageError(f"the chunks of an array have {len(kinds)} dtypes")
    if math.prod(shape) != sum(math.prod(chunk.shape) for chunk in chunks):
        raise DamageError(f"the chunks of an array do not fill its shape {truncated(list(shape))}")
    return FlaxTensor(shape, chunks[0].stored, tuple(chunk.pieces[0] for chunk in chunks))


def _listed(value: Value) -> list[Value]:
    """Returns the values of a map with the keys "0", "1", and so on."""
    if not isinstance(value, dict) or any(str(place) not in value for place in range(len(value))):
        raise DamageError("the parts of an array in chunks are not numbered")
    return [value[str(place)] for place in range(len(value))]


def _shape(sizes: Value) -> tuple[int, ...]:
    fits = isinstance(sizes, list) and len(sizes) <= _AXES
    if not fits or not all(type(size) is int and size >= 0 for size in sizes):  # type: ignore[union-attr]
        raise DamageError("the shape of an array is not a list of sizes")
    return tuple(sizes)  # type: ignore[arg-type]
