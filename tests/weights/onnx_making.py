"""Writes ONNX graphs without the onnx package: new ones, and real ones with changes."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forebear.weights.readers.detect import open_arrays
from forebear.weights.readers.onnx.onnx_file import OnnxArrays
from forebear.weights.readers.onnx.records import Attribute, Node, OnnxGraph, Value
from forebear.weights.readers.onnx.tensors import Tensor
from forebear.weights.writers.tensorflow.protobuf import message, number, varint

KINDS = {"f4": 1, "i8": 7, "f2": 10, "f8": 11, "i4": 6, "u1": 2}


def text(field: int, value: str) -> bytes:
    return message(field, value.encode())


def tensor(name: str, values: NDArray[Any], *parts: bytes, kind: int | None = None) -> bytes:
    """A TensorProto. Its values are raw_data, unless `parts` has others."""
    given = KINDS[values.dtype.str[1:]] if kind is None else kind
    dims = b"".join(varint(1 << 3) + varint(side) for side in values.shape)
    raw = parts or (message(9, values.tobytes()),)
    return dims + number(2, given) + text(8, name) + b"".join(raw)


def attribute(name: str, value: Attribute, arrays: Mapping[str, NDArray[Any]] = {}) -> bytes:
    if isinstance(value, Tensor):
        inside = message(5, tensor(value.name, value.values(Path())))
    elif isinstance(value, str):
        inside = text(4, value)
    elif isinstance(value, float):
        inside = varint(2 << 3 | 5) + struct.pack("<f", value)
    elif isinstance(value, int):
        inside = varint(3 << 3) + varint(value % 2**64)
    else:
        inside = b"".join(varint(8 << 3) + varint(one % 2**64) for one in value)
    kinds = {float: 1, int: 2, str: 3, Tensor: 4, tuple: 7}  # AttributeProto.AttributeType
    return text(1, name) + inside + number(20, kinds[type(value)])


def node(one: Node) -> bytes:
    domain, _, op = one.op.rpartition(".")
    names = [text(1, name) for name in one.inputs] + [text(2, name) for name in one.outputs]
    held = [message(5, attribute(name, value)) for name, value in one.attributes.items()]
    return b"".join([*names, text(3, one.name), text(4, op), *held, text(7, domain)])


def value(one: Value) -> bytes:
    dims = [message(1, number(1, side)) for side in one.dims]
    return text(1, one.name) + message(2, message(1, number(1, one.kind), message(2, *dims)))


def model(
    nodes: Sequence[Node],
    tensors: Sequence[bytes],
    inputs: Sequence[Value] = (Value("x", 1, (0, 3, 0, 0)),),
    outputs: Sequence[Value] = (Value("y", 1, (0, 9)),),
    properties: Mapping[str, str] = {},
    producer: str = "by hand",
) -> bytes:
    """A ModelProto."""
    graph = [
        *(message(1, node(one)) for one in nodes),
        *(message(5, one) for one in tensors),
        *(message(11, value(one)) for one in inputs),
        *(message(12, value(one)) for one in outputs),
    ]
    held = [message(14, text(1, key), text(2, said)) for key, said in properties.items()]
    opset = message(8, number(2, 17))
    return b"".join([number(1, 9), text(2, producer), message(7, *graph), opset, *held])


class Editor:
    """A real graph, to be changed and written again."""

    def __init__(self, path: Path) -> None:
        with open_arrays(path) as arrays:
            assert isinstance(arrays, OnnxArrays)
            self.graph: OnnxGraph = arrays.graph
            self.arrays = {name: arrays[name] for name in arrays}
        self.nodes = list(self.graph.nodes)
        self.inputs, self.outputs = self.graph.inputs, self.graph.outputs

    def place(self, op: str, count: int = 0) -> int:
        """The place of a node of an operation, counted from 0."""
        return [at for at, one in enumerate(self.nodes) if one.op == op][count]

    def change(self, op: str, count: int = 0, /, **changes: Any) -> Node:
        """Changes a node, and returns the one that was there."""
        at = self.place(op, count)
        old = self.nodes[at]
        if "attributes" in changes:
            changes["attributes"] = old.attributes | changes["attributes"]
        self.nodes[at] = replace(old, **changes)
        return old

    def insert(self, after: str, op: str, /, *inputs: str, **attributes: Any) -> str:
        """Puts a node after the tensor `after`, whose takers then take its output: the result."""
        name = f"{after}.{op}"
        self.nodes = [
            replace(one, inputs=tuple(name if i == after else i for i in one.inputs))
            for one in self.nodes
        ]
        self.nodes.append(Node(op, f"new {op}", (after, *inputs), (name,), attributes))
        return name

    def write(self, path: Path) -> Path:
        tensors = [tensor(name, np.asarray(array)) for name, array in self.arrays.items()]
        path.write_bytes(
            model(self.nodes, tensors, self.inputs, self.outputs, producer=self.graph.producer)
        )
        return path
