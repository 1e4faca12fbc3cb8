"""Turns the layers of a Caffe network into a graph of ONNX's operations.

A layer may write over its input, as Caffe's ReLUs do. Here each output has a name of its own. A
BatchNorm divides its statistics by a third array; the Scale after it has the factor and the shift.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import numpy as np

from forebear.text import truncated
from forebear.weights.readers.base import Array
from forebear.weights.readers.caffe.layers import Layer, Net
from forebear.weights.readers.onnx.records import Attribute, Node, OnnxGraph, Value
from forebear.weights.readers.onnx.tensors import FLOAT, Tensor, constant
from forebear.weights.readers.tensorflow.corruption import DamageError

_DATA = ("Input", "Data", "ImageData", "HDF5Data", "MemoryData", "DummyData", "WindowData")
_LOSSES = ("SoftmaxWithLoss", "Accuracy", "Silence")  # what training adds at the end
_PLAIN = {"ReLU": "Relu", "Dropout": "Dropout", "Flatten": "Flatten", "Softmax": "Softmax"}
_AVERAGE, _FLOOR = 1, 1  # PoolingParameter.PoolMethod and RoundMode
SIDE = 224  # pixels: of the input, if the file does not say


def to_graph(net: Net) -> OnnxGraph:
    """Returns the graph of a network.

    Raises:
        DamageError: A layer lacks an input or an array.
    """
    made = _Graph(net)
    for layer in net.layers:
        made.add(layer)
    return made.finished()


class _Graph:
    """A graph that grows by layers."""

    def __init__(self, net: Net) -> None:
        self._net = net
        self._nodes: list[Node] = []
        self._tensors: dict[str, Tensor] = {}
        self._names: dict[str, str] = {}  # blob to the name of what it holds at present
        self._writes: dict[str, int] = {}  # how often a blob has been written
        self._layers: dict[str, int] = {}  # how many arrays have the same name
        self._dims = tuple(net.dims[:4])
        self._input = net.inputs[0] if net.inputs else ""
        self._others: set[str] = set()  # names that are no part of the network, such as labels
        for blob in net.inputs:
            self._write(blob)
        self._others.update(net.inputs[1:])

    def add(self, layer: Layer) -> None:
        """Adds a layer."""
        if layer.kind in _DATA:
            self._add_data(layer)
            return
        if layer.kind in _LOSSES:
            return
        inputs = tuple(self._read(layer, blob) for blob in layer.inputs)
        if not inputs or not layer.outputs:
            raise DamageError(f"layer {truncated(layer.name)} has no input or no output")
        if layer.kind == "Split":
            for blob in layer.outputs:
                self._nodes.append(Node("Identity", layer.name, inputs, (self._write(blob),), {}))
            return
        if layer.kind == "Scale" and self._scales(layer, inputs[0]):
            return
        op, arrays, attributes = _operation(layer)
        names = [self._keep(f"{layer.name}/{place}", one) for place, one in enumerate(arrays)]
        output = self._write(layer.outputs[0])
        self._nodes.append(Node(op, layer.name, (*inputs, *names), (output,), attributes))

    def finished(self) -> OnnxGraph:
        """Returns the graph."""
        taken = set(chain.from_iterable(node.inputs for node in self._nodes))
        ends = [node.output for node in self._nodes if node.output not in taken]
        sides = self._dims if len(self._dims) == 4 else (0, 0, SIDE, SIDE)
        return OnnxGraph(
            nodes=tuple(self._nodes),
            tensors=self._tensors,
            inputs=(Value(self._input, FLOAT, sides),),
            outputs=tuple(Value(name, FLOAT, ()) for name in ends if name not in self._others),
            producer="Caffe",
            opset=1,
            properties={},
        )

    def _add_data(self, layer: Layer) -> None:
        """Takes the first output of the first layer of data as the input."""
        names = [self._write(blob) for blob in layer.outputs]
        if names and not self._input:
            self._input, names = names[0], names[1:]
            self._dims = self._dims or layer.shape[:4]
        elif names and layer.outputs[0] in self._names:  # the same data for another phase
            self._names[layer.outputs[0]] = self._input
        self._others.update(names)

    def _read(self, layer: Layer, blob: str) -> str:
        if blob not in self._names:
            raise DamageError(
                f"layer {truncated(layer.name)} takes {truncated(blob)!r}, which no layer gives"
            )
        return self._names[blob]

    def _write(self, blob: str) -> str:
        count = self._writes[blob] = self._writes.get(blob, 0) + 1
        self._names[blob] = blob if count == 1 else f"{blob}#{count}"
        return self._names[blob]

    def _keep(self, name: str, values: Array) -> str:
        """Adds a constant, and returns its name."""
        own = name
        while own in self._tensors:  # layers may have the same name
            self._layers[name] = self._layers.get(name, 1) + 1
            own = f"{name}#{self._layers[name]}"
        self._tensors[own] = constant(own, values)
        return own

    def _scales(self, layer: Layer, x: str) -> bool:
        """Writes a Scale into the BatchNorm before it; returns whether there is one."""
        before = self._nodes[-1] if self._nodes else None
        if before is None or before.op != "BatchNormalization" or before.output != x:
            return False
        if len(layer.blobs) not in (1, 2):
            return False
        for place, values in enumerate(layer.blobs, start=1):
            name = before.inputs[place]
            if values.shape != self._tensors[name].shape:
                raise DamageError(f"layer {truncated(layer.name)} has another size than its norm")
            del self._tensors[name]
            self._keep(name, values)
        output = self._write(layer.outputs[0])
        self._nodes[-1] = Node(before.op, before.name, before.inputs, (output,), before.attributes)
        return True


def _operation(layer: Layer) -> tuple[str, list[Array], dict[str, Attribute]]:
    """Returns the operation of a layer, its arrays and its attributes.

    A kind that networks of forebear do not have keeps its own name, which a message can then say.
    """
    if layer.kind == "Convolution":
        return "Conv", _arrays(layer, (1, 2)), _window(layer, "convolution")
    if layer.kind == "BatchNorm":
        mean, variance, factor = _arrays(layer, (3,))
        by = float(factor.reshape(-1)[0]) if factor.size else 0.0
        share = np.float32(1 / by if by else 0.0)
        ones, zeros = np.ones_like(mean), np.zeros_like(mean)
        epsilon = layer.number("batch_norm", 3, 1e-5)
        arrays = [ones, zeros, mean * share, variance * share]
        return "BatchNormalization", arrays, {"epsilon": float(epsilon)}
    if layer.kind == "InnerProduct":
        weight, *bias = _arrays(layer, (1, 2))
        weight = weight.reshape(weight.shape[-2:]) if weight.ndim == 4 else weight
        turned = 0 if layer.number("inner_product", 6, 0) else 1
        return "Gemm", [weight, *(one.reshape(-1) for one in bias)], {"transB": turned}
    if layer.kind == "Pooling":
        return _pool(layer)
    if layer.kind == "Eltwise":
        adds = layer.number("eltwise", 1, 1) == 1 and set(layer.numbers("eltwise", 2)) <= {1.0}
        return ("Add" if adds else "Eltwise"), [], {}
    if layer.kind == "ReLU" and layer.number("relu", 1, 0):
        return "LeakyRelu", [], {}
    return _PLAIN.get(layer.kind, layer.kind), [], {}


def _arrays(layer: Layer, counts: tuple[int, ...]) -> list[Array]:
    """Returns the arrays of a layer. A bias may have four axes in old files."""
    if len(layer.blobs) not in counts:
        raise DamageError(
            f"layer {truncated(layer.name)} ({truncated(layer.kind)}) has {len(layer.blobs)} "
            f"arrays instead of {' or '.join(map(str, counts))}"
        )
    first, *others = layer.blobs
    first = first.reshape(-1) if layer.kind == "BatchNorm" else first
    return [first, *(one.reshape(-1) for one in others)]


def _pool(layer: Layer) -> tuple[str, list[Array], dict[str, Attribute]]:
    mean = layer.number("pooling", 1, 0) == _AVERAGE
    if layer.number("pooling", 12, 0):
        return ("GlobalAveragePool" if mean else "GlobalMaxPool"), [], {}
    attributes = _window(layer, "pooling")
    attributes.pop("dilations")
    if mean:  # of a whole map: rounding changes nothing
        return "AveragePool", [], attributes
    up = layer.number("pooling", 13, 0) != _FLOOR
    return "MaxPool", [], {**attributes, "ceil_mode": int(up)}


# The numbers of the fields: both axes, height, width, and the default.
_PLACES = {
    "convolution": {
        "kernel_shape": (4, 11, 12, 0), "pads": (3, 9, 10, 0), "strides": (6, 13, 14, 1),
        "dilations": (18, 0, 0, 1),
    },
    "pooling": {
        "kernel_shape": (2, 5, 6, 0), "pads": (4, 9, 10, 0), "strides": (3, 7, 8, 1),
        "dilations": (0, 0, 0, 1),
    },
}  # fmt: skip


def _window(layer: Layer, which: str) -> dict[str, Attribute]:
    found: dict[str, Attribute] = {}
    for name, places in _PLACES[which].items():
        sides = tuple(_sides(layer, which, *places))
        found[name] = sides * 2 if name == "pads" else sides
    return found | ({"group": int(layer.number(which, 5, 1))} if which == "convolution" else {})


def _sides(
    layer: Layer, which: str, both: int, height: int, width: int, default: int
) -> Iterator[int]:
    """Yields a setting for rows and for columns."""
    whole = layer.numbers(which, both) or (default,)
    for place, own in enumerate((height, width)):
        yield int(layer.number(which, own, whole[min(place, len(whole) - 1)]))
