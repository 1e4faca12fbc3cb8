"""Turns the modules of a Torch7 network into a graph of ONNX's operations.

The modules are those of facebookarchive/fb.resnet.torch (models/resnet.lua and preresnet.lua) and
of facebookresearch/ResNeXt, by the packages nn and cudnn.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from forebear.limits import GRAPH_NODES, TORCH7_NESTING
from forebear.text import truncated
from forebear.weights.readers.base import Array
from forebear.weights.readers.onnx.records import Attribute, Node, OnnxGraph, Value
from forebear.weights.readers.onnx.tensors import FLOAT, Tensor, constant
from forebear.weights.readers.tensorflow.corruption import DamageError
from forebear.weights.readers.torch7.objects import Module

_Flow = str | list[str]  # the name of a tensor, or those of a table of tensors
_INPUT = "image"
_PLAIN = {
    "ReLU": "Relu", "View": "Flatten", "Reshape": "Flatten", "Dropout": "Dropout",
    "SoftMax": "Softmax", "LogSoftMax": "Softmax",
}  # fmt: skip
_PASSING = ("Identity", "Copy", "Contiguous")
_CONVOLUTIONS = ("SpatialConvolution", "SpatialConvolutionMM", "SpatialDilatedConvolution")
_NORMS = ("SpatialBatchNormalization", "BatchNormalization")
_POOLS = {"SpatialMaxPooling": "MaxPool", "SpatialAveragePooling": "AveragePool"}


def to_graph(network: Module, size: int) -> OnnxGraph:
    """Returns the graph of a network.

    Args:
        network: The module that has all others.
        size: Bytes of the file: modules that share arrays must not become larger than it.

    Raises:
        DamageError: A module lacks an array, or the modules are linked in another way.
    """
    made = _Graph(size)
    output = made.add(network, "", _INPUT, 0)
    if not isinstance(output, str):
        raise DamageError("its last module gives a table of tensors")
    return OnnxGraph(
        nodes=tuple(made.nodes),
        tensors=made.tensors,
        inputs=(Value(_INPUT, FLOAT, (0, 0, 0, 0)),),
        outputs=(Value(output, FLOAT, ()),),
        producer="Torch7",
        opset=1,
        properties={},
    )


class _Graph:
    """A graph that grows by modules."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._modules = self._values = 0  # what has been added
        self.nodes: list[Node] = []
        self.tensors: dict[str, Tensor] = {}
        self._channels: dict[str, int] = {}  # of the maps that a convolution or a norm gave

    def add(self, module: Module, path: str, x: _Flow, depth: int) -> _Flow:
        """Adds a module, and returns what it gives.

        Args:
            module: What to add.
            path: Its place in its containers, such as "5.1.2".
            x: What it takes.
            depth: The number of these containers.
        """
        self._modules += 1  # containers too: a few of them may have each other many times
        if depth > TORCH7_NESTING or self._modules > GRAPH_NODES:
            raise DamageError("its modules are in a circle, or too many")
        library, _, kind = module.kind.rpartition(".")
        if library not in ("nn", "cudnn", "cunn"):
            kind = module.kind
        if kind in ("Sequential", "DataParallelTable"):
            for part, own in _parts(module, path):
                x = self.add(part, own, x, depth + 1)
                if kind == "DataParallelTable":  # the other ones are copies
                    break
            return x
        if kind == "ConcatTable":
            return [self._single(part, own, x, depth) for part, own in _parts(module, path)]
        if kind == "CAddTable":
            return self._node("Add", path, x if isinstance(x, list) else [x], same=True)
        if isinstance(x, list):
            raise DamageError(f"module {path} ({truncated(kind)}) takes a table of tensors")
        if kind in _PASSING:
            return x
        if kind == "Concat":
            return self._with_zeros(module, path, x)
        if kind in _CONVOLUTIONS:
            return self._convolution(module, path, x)
        if kind in _NORMS:
            return self._norm(module, path, x)
        if kind in _POOLS:
            return self._pool(module, _POOLS[kind], path, x)
        if kind == "Linear":
            return self._linear(module, path, x)
        return self._node(_PLAIN.get(kind, kind), path, [x], same=True)

    def _single(self, module: Module, path: str, x: _Flow, depth: int) -> str:
        found = self.add(module, path, x, depth + 1)
        if not isinstance(found, str):
            raise DamageError(f"module {path} gives a table of tensors")
        return found

    def _node(
        self,
        op: str,
        path: str,
        inputs: list[str],
        arrays: tuple[tuple[str, Array], ...] = (),
        attributes: dict[str, Attribute] | None = None,
        *,
        channels: int = 0,
        same: bool = False,
    ) -> str:
        """Adds a node and its arrays, and returns the name of its output."""
        names = []
        for name, values in arrays:
            self._values += values.size
            if self._values > self._size:
                raise DamageError(
                    f"its modules share arrays: module {path} makes {self._values} values of a "
                    f"file of {self._size} bytes"
                )
            self.tensors[f"{path}.{name}"] = constant(f"{path}.{name}", values)
            names.append(f"{path}.{name}")
        output = f"{path}#{len(self.nodes)}"
        given = (*inputs, *names)
        self.nodes.append(Node(op, path, given, (output,), attributes or {}))
        self._channels[output] = channels or (self._channels.get(inputs[0], 0) if same else 0)
        return output

    def _convolution(self, module: Module, path: str, x: str) -> str:
        kernel, bias = _weight(module, path), module.array("bias")
        height, width = int(module.number("kH", 0)), int(module.number("kW", 0))
        groups = int(module.number("groups", 1))
        out, inside = (int(module.number(name, 0)) for name in ("nOutputPlane", "nInputPlane"))
        shape = (out, inside // groups if groups > 0 else 0, height, width)
        if min(shape) < 1 or kernel.size != int(np.prod(shape, dtype=np.int64)):
            raise DamageError(f"module {path}: a kernel of {list(kernel.shape)} is not {shape}")
        arrays = _with_bias(kernel.reshape(shape), bias)
        attributes: dict[str, Attribute] = {
            **_window(module),
            "dilations": (int(module.number("dilationH", 1)), int(module.number("dilationW", 1))),
            "group": groups,
        }
        return self._node("Conv", path, [x], arrays, attributes, channels=out)

    def _norm(self, module: Module, path: str, x: str) -> str:
        mean, epsilon = module.array("running_mean"), module.number("eps", 1e-5)
        if mean is None:
            raise DamageError(f"module {path} (BatchNormalization) has no running_mean")
        variance, deviation = module.array("running_var"), module.array("running_std")
        if variance is None and deviation is not None:  # before 2016: 1 / sqrt(variance + eps)
            with np.errstate(all="ignore"):
                variance = 1 / np.square(deviation.astype(np.float64)) - epsilon
        if variance is None:
            raise DamageError(f"module {path} (BatchNormalization) has no running_var")
        weight, bias = module.array("weight"), module.array("bias")
        arrays = (
            ("weight", np.ones_like(mean) if weight is None else weight),
            ("bias", np.zeros_like(mean) if bias is None else bias),
            ("running_mean", mean),
            ("running_var", variance),
        )
        return self._node(
            "BatchNormalization", path, [x], arrays, {"epsilon": epsilon}, channels=len(mean)
        )

    def _pool(self, module: Module, op: str, path: str, x: str) -> str:
        up = module.fields.get("ceil_mode") is True and op == "MaxPool"
        attributes = {**_window(module), "ceil_mode": int(up)}
        return self._node(op, path, [x], (), attributes, same=True)

    def _linear(self, module: Module, path: str, x: str) -> str:
        arrays = _with_bias(_weight(module, path), module.array("bias"))
        return self._node("Gemm", path, [x], arrays, {"transB": 1})

    def _with_zeros(self, module: Module, path: str, x: str) -> str:
        """Adds the shortcut of type A: the maps, and after them as many of zeros."""
        kinds = [one.kind.rpartition(".")[2] for one in module.modules[:3]]
        plain = module.number("dimension", 0) == 2 and kinds == ["Identity", "MulConstant"]
        count = self._channels.get(x, 0)
        if not plain or module.modules[1].number("constant_scalar", 1) != 0 or not count:
            return self._node("Concat", path, [x])
        pads = (0, 0, 0, 0, 0, count, 0, 0)
        return self._node("Pad", path, [x], (), {"pads": pads}, channels=2 * count)


def _parts(module: Module, path: str) -> Iterator[tuple[Module, str]]:
    """Yields the modules in a container and their places."""
    for place, one in enumerate(module.modules, start=1):
        yield one, f"{path}.{place}" if path else str(place)


def _weight(module: Module, path: str) -> Array:
    found = module.array("weight")
    if found is None:
        raise DamageError(f"module {path} ({truncated(module.kind)}) has no weight")
    return found


def _with_bias(weight: Array, bias: Array | None) -> tuple[tuple[str, Array], ...]:
    return (("weight", weight),) if bias is None else (("weight", weight), ("bias", bias))


def _window(module: Module) -> dict[str, Attribute]:
    """Returns the kernel, the strides and the pads of a module."""
    pads = [int(module.number(name, module.number("padding", 0))) for name in ("padH", "padW")]
    return {
        "kernel_shape": (int(module.number("kH", 0)), int(module.number("kW", 0))),
        "strides": (int(module.number("dH", 1)), int(module.number("dW", 1))),
        "pads": (*pads, *pads),
    }
