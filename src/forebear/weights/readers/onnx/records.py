"""The records of an ONNX graph: nodes with their attributes, arrays, inputs and outputs.

The numbers of the fields are those of onnx.proto3. What a field means for a network is left to
`forebear.weights.graphs`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from forebear.limits import ARRAY_NAME, ARRAYS, GRAPH_NODES
from forebear.text import truncated
from forebear.weights.readers.onnx.tensors import (
    LISTED,
    Tensor,
    check_shape,
    integers,
    tensor,
    text,
)
from forebear.weights.readers.tensorflow.corruption import DamageError
from forebear.weights.readers.tensorflow.protobuf import FIXED32, Field, fields

Attribute = int | float | str | tuple[int, ...] | Tensor
_OWN = ("", "ai.onnx")  # domains of ONNX's own operators


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One operation of a graph."""

    op: str  # with its domain, if it is not ONNX's own: "com.microsoft.FusedConv"
    name: str  # may be empty
    inputs: tuple[str, ...]  # "" stands for one that is left out
    outputs: tuple[str, ...]
    attributes: dict[str, Attribute]

    @property
    def output(self) -> str:
        """The first output."""
        return self.outputs[0] if self.outputs else ""

    @property
    def shown(self) -> str:
        """What a message calls the node: its name, or else its output, and its operation."""
        return f"{truncated(self.name or self.output)!r} ({truncated(self.op)})"

    def number(self, name: str, default: float) -> float:
        """Returns an attribute that is a number."""
        value = self.attributes.get(name, default)
        return value if isinstance(value, int | float) else default

    def numbers(self, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """Returns an attribute that is a list of integers."""
        value = self.attributes.get(name, default)
        return value if isinstance(value, tuple) else default

    def word(self, name: str, default: str) -> str:
        """Returns an attribute that is a string."""
        value = self.attributes.get(name, default)
        return value if isinstance(value, str) else default


@dataclass(frozen=True, slots=True)
class Value:
    """An input or an output of a graph."""

    name: str
    kind: int  # TensorProto.DataType
    dims: tuple[int, ...]  # 0: any


@dataclass(frozen=True, slots=True, eq=False)
class OnnxGraph:
    """A graph, and what its file says about itself."""

    nodes: tuple[Node, ...]
    tensors: dict[str, Tensor]  # initializers, and constants that nodes make
    inputs: tuple[Value, ...]  # without those that are initializers
    outputs: tuple[Value, ...]
    producer: str  # the program that wrote it, and its version
    opset: int
    properties: dict[str, str]


def parse(message: memoryview) -> OnnxGraph:
    """Returns the graph of a ModelProto.

    Raises:
        DamageError: The message is damaged, or is no model with a graph.
    """
    graph, opset, producer, properties = None, 1, ["", ""], {}
    for one in fields(message):
        if one.number == 7:
            graph = one.message()
        elif one.number in (2, 3):
            producer[one.number - 2] = text(one)
        elif one.number == 8:
            domain, version = _opset(one.message())
            opset = version if domain in _OWN else opset
        elif one.number == 14:
            pair = {inner.number: text(inner) for inner in fields(one.message())}
            properties[pair.get(1, "")] = pair.get(2, "")
        elif one.number == 25:
            raise DamageError("it has functions of its own, which only ONNX's programs expand")
    if graph is None:
        raise DamageError("it has no graph")
    return _graph(graph, " ".join(part for part in producer if part), opset, properties)


def _opset(message: memoryview) -> tuple[str, int]:
    domain, version = "", 1
    for one in fields(message):
        if one.number == 1:
            domain = text(one)
        elif one.number == 2:
            version = one.integer()
    return domain, version


def _graph(message: memoryview, producer: str, opset: int, properties: dict[str, str]) -> OnnxGraph:
    nodes, tensors = list[Node](), dict[str, Tensor]()
    inputs, outputs = list[Value](), list[Value]()
    for one in fields(message):
        if one.number == 1:
            nodes.append(_node(one.message()))
        elif one.number == 5:
            made = tensor(one.message())
            if made.name in tensors:
                raise DamageError(f"{truncated(made.name)}: two arrays have this name")
            tensors[made.name] = made
        elif one.number in (11, 12):
            (inputs if one.number == 11 else outputs).append(_value(one.message()))
        elif one.number == 15:
            raise DamageError("it has sparse arrays, which networks of forebear do not have")
        if len(nodes) > GRAPH_NODES or max(len(tensors), len(inputs), len(outputs)) > ARRAYS:
            raise DamageError(f"it has more than {GRAPH_NODES:,} nodes or {ARRAYS:,} arrays")
    kept = []
    for node in nodes:
        found = _constant(node, tensors)
        if found is None:
            kept.append(node)
        else:
            tensors[node.output] = found
    given = tuple(value for value in inputs if value.name not in tensors)  # IR 3 lists arrays too
    return OnnxGraph(tuple(kept), tensors, given, tuple(outputs), producer, opset, properties)


def _constant(node: Node, tensors: dict[str, Tensor]) -> Tensor | None:
    """Returns the array that a node makes of nothing but constants, or None."""
    value = node.attributes.get("value")
    if not node.output:
        return None
    if node.op == "Constant" and isinstance(value, Tensor):
        return Tensor(node.output, value.shape, value.kind, value.fields, value.external)
    if node.op == "Identity" and len(node.inputs) == 1 and node.inputs[0] in tensors:
        return tensors[node.inputs[0]]
    if node.op == "ConstantOfShape" and len(node.inputs) == 1 and node.inputs[0] in tensors:
        given = tensors[node.inputs[0]]
        if isinstance(value, Tensor) and len(given.shape) == 1 and not given.external:
            dims = [int(side) for side in given.inside()]
            check_shape(node.output, dims)
            return Tensor(node.output, tuple(dims), value.kind, fill=value)
    return None


def _node(message: memoryview) -> Node:
    strings: dict[int, list[str]] = {1: [], 2: [], 3: [], 4: [], 7: []}
    attributes = {}
    for one in fields(message):
        if one.number in strings:
            strings[one.number].append(_name(one))
        elif one.number == 5:
            name, value = _attribute(one.message())
            if value is not None:
                attributes[name] = value
        if max(len(attributes), *map(len, strings.values())) > LISTED:
            raise DamageError(f"a node has more than {LISTED} inputs, outputs or attributes")
    name, op, domain = ("".join(strings[number][-1:]) for number in (3, 4, 7))
    op = op if domain in _OWN else f"{domain}.{op}"
    return Node(op, name, tuple(strings[1]), tuple(strings[2]), attributes)


def _name(one: Field) -> str:
    name = text(one)
    if len(name) > ARRAY_NAME:
        raise DamageError(f"a name has {len(name)} characters, more than {ARRAY_NAME:,}")
    return name


def _attribute(message: memoryview) -> tuple[str, Attribute | None]:
    """Returns the name and the value of an attribute; None for subgraphs and other values."""
    name, listed = "", list[int]()
    value: Attribute | None = None
    for one in fields(message):
        if one.number == 1:
            name = _name(one)
        elif one.number == 2 and one.wire == FIXED32:
            value = _float(one)
        elif one.number == 3:
            value = one.signed()
        elif one.number == 4:
            value = bytes(one.message()).decode("utf-8", "replace")
        elif one.number == 5:
            value = tensor(one.message())
        elif one.number == 8:
            listed += integers(one)
            if len(listed) > LISTED:
                raise DamageError(f"an attribute has more than {LISTED} values")
    return name, tuple(listed) if listed else value


def _float(one: Field) -> float:
    found: float = struct.unpack("<f", one.data)[0]
    return found


def _value(message: memoryview) -> Value:
    """Returns an input or an output: ValueInfoProto, TypeProto, TensorShapeProto."""
    name, kind, dims = "", 0, list[int]()
    for one in fields(message):
        if one.number == 1:
            name = _name(one)
        for inner in _inner(one, 2):
            for part in _inner(inner, 1):
                kind = part.integer() if part.number == 1 else kind
                dims += [_side(side) for side in _inner(part, 2) if side.number == 1]
    return Value(name, kind, tuple(dims[:LISTED]))


def _inner(one: Field, number: int) -> Iterator[Field]:
    return fields(one.message()) if one.number == number else iter(())


def _side(dimension: Field) -> int:
    found = [one.signed() for one in fields(dimension.message()) if one.number == 1]
    return max(0, found[-1]) if found else 0
