"""Reads TensorFlow V2 checkpoints: a table with the data file and offset of each array.

The format is defined in tensorflow/core/protobuf/tensor_bundle.proto. Values are raw,
little-endian, and in C order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from forebear.limits import OBJECT_GRAPH_BYTES
from forebear.weights.readers.base import Array
from forebear.weights.readers.tensorflow.checkpoint import Checkpoint
from forebear.weights.readers.tensorflow.corruption import DamageError, blame
from forebear.weights.readers.tensorflow.crc32c import crc32c, masked
from forebear.weights.readers.tensorflow.object_graph import variable_names
from forebear.weights.readers.tensorflow.protobuf import Field, fields
from forebear.weights.readers.tensorflow.sstable import Table
from forebear.weights.readers.tensorflow.string_tensor import read_string
from forebear.weights.readers.tensorflow.tensor_records import (
    KINDS,
    STRING,
    Kind,
    Slice,
    Tensor,
    name_of,
    shape_of,
    slice_key,
    slice_of,
    slice_shape,
    whole,
)

OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"  # the references of TF2's objects; not an array
_CHUNK = 1 << 20  # bytes that are read and verified at a time, so that they are still in the cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The location of the values of an array or a slice."""

    shard: int
    offset: int  # bytes
    size: int  # bytes
    checksum: int  # masked


class CheckpointV2(Checkpoint):
    """The arrays of a V2 checkpoint. Data files are open only while an array is read."""

    format = "TensorFlow checkpoint V2"

    def __init__(self, path: Path, index: Path, table: Table) -> None:
        """Reads and closes the index. Checks that the data files exist and are long enough.

        Raises:
            DamageError: The index is damaged.
            WeightsError: A data file is missing or too short.
        """
        self._prefix = index.with_suffix("")
        entries = dict(table.items())
        table.close()
        self._shards = _shards(entries.get(b"", memoryview(b"")))
        tensors: dict[str, Tensor] = {}
        self._places: dict[tuple[str, Slice], Place] = {}
        for key, message in entries.items():
            if key[:1] not in (b"", b"\0") and key != OBJECT_GRAPH.encode():
                name = name_of(key)
                with blame(index, name):
                    tensors[name], place = _entry(message)
                    places = _places(name, tensors[name], place, entries)
                    beyond = [p.shard for p in places.values() if p.shard >= self._shards]
                    if beyond:
                        number = f"number {beyond[0]}, but there are only {self._shards}"
                        raise DamageError(f"its data file has {number}")
                    self._places |= places
        graph = entries.get(OBJECT_GRAPH.encode())
        if graph is not None:
            self.format = "TensorFlow 2 checkpoint of objects"
            with blame(index, OBJECT_GRAPH):
                tensors = self._named(graph, tensors)
        super().__init__(path, tensors, self._bytes())

    def close(self) -> None:
        """Does nothing, because no file is open."""

    def _piece(self, name: str, part: Slice, kind: Kind) -> Array:
        place = self._places[name, part]
        array = np.empty(slice_shape(part, self.shape(name)), kind.stored)
        data = array.reshape(-1).view(np.uint8)
        with blame(self._file(place.shard), name):
            if read_checked(self._file(place.shard), place.offset, data) != place.checksum:
                raise DamageError("the checksum of its values does not match")
        return array

    def _named(self, graph: memoryview, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns {name by the object graph: array}, without texts such as an object's config."""
        place = _entry(graph)[1]
        if place.shard >= self._shards or place.size > OBJECT_GRAPH_BYTES:
            what = f"{place.size} bytes in data file {place.shard}"
            raise DamageError(f"it has {what}; at most {OBJECT_GRAPH_BYTES} bytes are read")
        file = self._file(place.shard)
        content = read_string(file, place.offset, place.size, place.checksum)
        kept = {key: tensor for key, tensor in tensors.items() if tensor.kind != STRING}
        names = {key: key for key in kept} | variable_names(content, kept)
        self._places = {
            (names[key], part): place for (key, part), place in self._places.items() if key in names
        }
        return {names[key]: tensor for key, tensor in kept.items()}

    def _file(self, shard: int) -> Path:
        return data_file(self._prefix, shard, self._shards)

    def _bytes(self) -> int:
        """Returns the total size of the data files in bytes. Checks that none is too short."""
        sizes: dict[int, int] = {}
        for (name, _), place in self._places.items():
            file = self._file(place.shard)
            with blame(file, name):
                if place.shard not in sizes:
                    if not file.is_file():
                        raise DamageError("its data file is missing")
                    sizes[place.shard] = file.stat().st_size
                if place.offset + place.size > sizes[place.shard]:
                    last = sizes[place.shard]
                    raise DamageError(f"its values are beyond the end of the file at byte {last}")
        return sum(sizes.values())


def data_file(prefix: Path, shard: int, shards: int) -> Path:
    """Returns the name of a data file. TensorFlow does not store it in the index."""
    return prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{shards:05d}")


def read_checked(file: Path, offset: int, data: NDArray[np.uint8]) -> int:
    """Fills `data` from a file, and returns the masked checksum of the data.

    Raises:
        DamageError: The file is too short.
    """
    crc = 0
    with file.open("rb", buffering=0) as source:
        source.seek(offset)
        for start in range(0, len(data), _CHUNK):
            chunk = data[start : start + _CHUNK]
            if source.readinto(chunk.data) != len(chunk):
                raise DamageError("the file ends within its values")
            crc = crc32c(chunk, crc)
    return masked(crc)


def _shards(message: memoryview) -> int:
    """Returns the number of data files from a BundleHeaderProto."""
    found = {field.number: field.integer() for field in fields(message) if field.number in (1, 2)}
    if found.get(2, 0) != 0:
        raise DamageError("its values are big-endian, which is not supported")
    if found.get(1, 0) < 1:
        raise DamageError("its index has no header with the number of data files")
    return found[1]


def _entry(message: memoryview) -> tuple[Tensor, Place]:
    """Reads a BundleEntryProto."""
    found = list(fields(message))
    parts = {field.number: field for field in found}
    shape = shape_of(parts[2].message()) if 2 in parts else ()
    slices = tuple(slice_of(field.message(), shape) for field in found if field.number == 7)
    tensor = Tensor(kind=_number(parts, 1), shape=shape, slices=slices or (whole(shape),))
    return tensor, Place(
        shard=_number(parts, 3),
        offset=_number(parts, 4),
        size=_number(parts, 5),
        checksum=_number(parts, 6),
    )


def _number(parts: dict[int, Field], number: int) -> int:
    return parts[number].integer() if number in parts else 0


def _places(
    name: str, tensor: Tensor, place: Place, entries: dict[bytes, memoryview]
) -> dict[tuple[str, Slice], Place]:
    """Returns the places of an array's slices, after checking their sizes.

    An array that is not split is one slice.
    """
    places = {}
    for part in tensor.slices:
        if part != whole(tensor.shape):
            message = entries.get(slice_key(name, part))
            if message is None:
                raise DamageError(f"the index has no entry for its slice {list(part)}")
            piece, place = _entry(message)
            if (piece.kind, piece.shape) != (tensor.kind, slice_shape(part, tensor.shape)):
                raise DamageError(f"its slice {list(part)} has another type or shape")
        if tensor.kind in KINDS:  # the size of other types is unknown
            needed = math.prod(slice_shape(part, tensor.shape)) * KINDS[tensor.kind].stored.itemsize
            if place.size != needed:
                raise DamageError(f"it has {place.size} bytes instead of {needed}")
        places[name, part] = place
    return places
