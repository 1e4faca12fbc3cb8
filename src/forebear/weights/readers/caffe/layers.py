"""The layers of a Caffe network: NetParameter and LayerParameter of BVLC Caffe's caffe.proto."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, islice

import numpy as np

from forebear.limits import ARRAY_NAME, GRAPH_NODES
from forebear.text import truncated
from forebear.weights.readers.base import Array
from forebear.weights.readers.onnx.tensors import LISTED, check_shape, integers, text
from forebear.weights.readers.tensorflow.corruption import DamageError
from forebear.weights.readers.tensorflow.protobuf import (
    BYTES,
    FIXED32,
    FIXED64,
    Field,
    fields,
)

# Messages of LayerParameter with the settings of a layer.
_SETTINGS = {
    106: "convolution", 110: "eltwise", 117: "inner_product", 121: "pooling", 123: "relu",
    139: "batch_norm", 142: "scale", 143: "input",
}  # fmt: skip
_Bytes = memoryview | bytearray
_FLOATS = {("batch_norm", 3), ("relu", 1), ("eltwise", 2)}  # fields that are float


class OldCaffeError(DamageError):
    """The file has layers of 2014, before Caffe had a batch norm."""


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One layer, and its arrays."""

    name: str
    kind: str  # "Convolution"
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    blobs: tuple[Array, ...]
    settings: dict[
        str, dict[int, tuple[float, ...]]
    ]  # {"convolution": {number of a field: values}}
    shape: tuple[int, ...] = ()  # of the output of an Input layer

    def numbers(self, which: str, number: int) -> tuple[float, ...]:
        """Returns the values of a field of the settings; () if it is not there."""
        return self.settings.get(which, {}).get(number, ())

    def number(self, which: str, number: int, default: float) -> float:
        """Returns the last value of a field of the settings."""
        return (self.numbers(which, number) or (default,))[-1]


@dataclass(slots=True)
class Net:
    """A network."""

    name: str = ""
    inputs: list[str] = field(default_factory=list)
    dims: list[int] = field(default_factory=list)  # of the first input
    layers: list[Layer] = field(default_factory=list)


def parse(message: memoryview) -> Net:
    """Returns a NetParameter. The arrays stay in the file.

    Raises:
        OldCaffeError: Its layers are V1LayerParameter.
        DamageError: The message is damaged.
    """
    net = Net()
    for one in fields(message):
        if one.number == 1:
            net.name = _name(one)
        elif one.number == 2:
            raise OldCaffeError("its layers are those of Caffe before November 2014")
        elif one.number == 3:
            net.inputs.append(_name(one))
        elif one.number == 4:
            net.dims += integers(one)
        elif one.number == 8 and not net.dims:
            net.dims += _dims(one.message())
        elif one.number == 100:
            net.layers.append(_layer(one.message()))
        if max(len(net.layers), len(net.inputs), len(net.dims)) > GRAPH_NODES:
            raise DamageError(f"it has more than {GRAPH_NODES:,} layers")
    return net


def _layer(message: memoryview) -> Layer:
    words: dict[int, list[str]] = {1: [], 2: [], 3: [], 4: []}  # name, type, bottom, top
    blobs, settings, shape = list[Array](), dict[str, dict[int, tuple[float, ...]]](), list[int]()
    for one in fields(message):
        if one.number in words:
            words[one.number].append(_name(one))
        elif one.number == 7:
            blobs.append(_blob(one.message()))
        elif one.number in _SETTINGS:
            which = _SETTINGS[one.number]
            settings[which] = _values(which, one.message())
            if which == "input":
                shape = [*chain.from_iterable(map(_dims, _shapes(one.message())))][:LISTED]
        if max(len(blobs), *map(len, words.values())) > LISTED:
            raise DamageError(f"a layer has more than {LISTED} inputs, outputs or arrays")
    name, kind = ("".join(words[number][-1:]) for number in (1, 2))
    return Layer(name, kind, tuple(words[3]), tuple(words[4]), tuple(blobs), settings, tuple(shape))


def _name(one: Field) -> str:
    name = text(one)
    if len(name) > ARRAY_NAME:
        raise DamageError(f"a name has {len(name)} characters, more than {ARRAY_NAME:,}")
    return name


def _values(which: str, message: memoryview) -> dict[int, tuple[float, ...]]:
    """Returns the numbers in the settings of a layer, by the number of their field."""
    found: dict[int, tuple[float, ...]] = {}
    for one in fields(message):
        values: list[float]
        if (which, one.number) in _FLOATS:
            values = _floats(one)
        elif one.wire == BYTES and not (which == "convolution" and one.number in (3, 4, 6, 18)):
            continue  # a filler, or a name
        else:
            values = [float(value) for value in integers(one)]
        found[one.number] = (*found.get(one.number, ()), *values)
        if len(found[one.number]) > LISTED:
            raise DamageError(f"the settings of a layer have more than {LISTED} values")
    return found


def _floats(one: Field) -> list[float]:
    if one.wire not in (FIXED32, BYTES) or len(one.data) % 4 or len(one.data) > 4 * LISTED:
        raise DamageError(f"field {one.number} of a layer's settings is not of floats")
    return [value for (value,) in struct.iter_unpack("<f", one.data)]


def _shapes(message: memoryview) -> Iterator[memoryview]:
    """Yields the BlobShapes of an InputParameter."""
    found = (one.message() for one in fields(message) if one.number == 1)
    return islice(found, LISTED)


def _dims(message: memoryview) -> list[int]:
    """Returns the sides of a BlobShape."""
    sides = list[int]()
    for one in fields(message):
        if one.number == 1:
            sides += integers(one)
        if len(sides) > LISTED:
            raise DamageError(f"a shape has more than {LISTED} sides")
    return sides


def _blob(message: memoryview) -> Array:
    """Returns the array of a BlobProto, whose bytes stay where they are."""
    old, dims = [1, 1, 1, 1], None
    stored: dict[int, _Bytes] = {5: memoryview(b""), 8: memoryview(b"")}  # float32 and float64
    for one in fields(message):
        if one.number in (1, 2, 3, 4):  # num, channels, height and width of old files
            old[one.number - 1] = one.signed()
        elif one.number in (5, 8):
            stored[one.number] = _joined(stored[one.number], one)
        elif one.number == 7:
            dims = _dims(one.message())
    dims = old if dims is None else dims
    # Blob::FromProto of Caffe's blob.cpp prefers the float64 ones.
    values: Array = (
        np.frombuffer(stored[8], "<f8") if stored[8] else np.frombuffer(stored[5], "<f4")
    )
    check_shape("an array", dims)
    if len(values) != int(np.prod(dims, dtype=np.int64)):
        raise DamageError(f"an array has {len(values)} values for the shape {truncated(str(dims))}")
    return values.reshape(dims)


def _joined(stored: _Bytes, one: Field) -> _Bytes:
    """Returns the bytes of an array and those of one more field, which has many values or one."""
    size = 4 if one.number == 5 else 8
    single = one.wire == (FIXED32 if size == 4 else FIXED64)
    if not (single or one.wire == BYTES) or len(one.data) % size:
        raise DamageError("the values of an array are no floats, or the last one is cut")
    if not stored:
        return one.data
    joined = stored if isinstance(stored, bytearray) else bytearray(stored)
    joined += one.data
    return joined
