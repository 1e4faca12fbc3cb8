"""Turns the symbol of an MXNet network into a graph of ONNX's operations.

The symbol is a JSON file of nodes: variables, which are the input and the arrays, and operators.
Their defaults are those of MXNet 1.9 (src/operator/nn). Attributes are strings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from forebear.limits import GRAPH_NODES
from forebear.text import truncated
from forebear.weights.readers.onnx.records import Attribute, Node, OnnxGraph, Value
from forebear.weights.readers.onnx.tensors import FLOAT, LISTED, Tensor, constant
from forebear.weights.readers.tensorflow.corruption import DamageError

_VARIABLE = "null"
_PLAIN = {
    "relu": "Relu", "Flatten": "Flatten", "flatten": "Flatten", "Dropout": "Dropout",
    "elemwise_add": "Add", "broadcast_add": "Add", "_plus": "Add", "_Plus": "Add",
    "add_n": "Add", "ElementWiseSum": "Add", "identity": "Identity", "_copy": "Identity",
    "BlockGrad": "Identity", "softmax": "Softmax",
}  # fmt: skip
_LOSSES = ("SoftmaxOutput", "SoftmaxActivation")  # a softmax; the second input is the label
_POOLS = {"max": "MaxPool", "avg": "AveragePool"}
_GLOBAL = {"max": "GlobalMaxPool", "avg": "GlobalAveragePool"}
_NORM_EPS = 1e-3  # batch_norm-inl.h
_STATISTICS = ("moving_mean", "moving_var")  # which symbols before 0.9 do not list as inputs
_LIST = re.compile(r"[(\[]?\s*(\d{1,9}(?:\s*,\s*\d{1,9})*)\s*,?\s*[)\]]?\Z")


def to_graph(symbol: Any, arrays: Mapping[str, Tensor]) -> OnnxGraph:
    """Returns the graph of a network.

    Args:
        symbol: The content of the symbol's file.
        arrays: The arrays by the names of the variables.

    Raises:
        DamageError: The symbol has another form, or an operator lacks an input.
    """
    nodes = symbol.get("nodes") if isinstance(symbol, dict) else None
    if not isinstance(nodes, list) or not 0 < len(nodes) <= GRAPH_NODES:
        raise DamageError("it has no list of nodes")
    made = _Graph(arrays)
    for number, node in enumerate(nodes):
        made.add(_Operator(node, number))
    return made.finished()


class _Operator:
    """A node of a symbol, with checked fields."""

    def __init__(self, node: Any, number: int) -> None:
        if not isinstance(node, dict):
            raise DamageError(f"its node {number} is no object")
        self.op, self.name = (str(node.get(key, "")) for key in ("op", "name"))
        # Symbols of several versions of MXNet call them differently.
        given: Any = next((node[key] for key in ("attrs", "attr", "param") if node.get(key)), {})
        self.settings: Mapping[str, Any] = given if isinstance(given, dict) else {}
        listed = node.get("inputs")
        listed = listed if isinstance(listed, list) and len(listed) <= LISTED else None
        if listed is None or not all(_is_link(one, number) for one in listed):
            raise DamageError(f"node {truncated(self.name)} has no inputs before it")
        self.inputs = [int(one[0]) for one in listed]

    def word(self, name: str, default: str) -> str:
        """Returns an attribute in lower case."""
        return str(self.settings.get(name, default)).lower()

    def flag(self, name: str, default: str) -> bool:
        """Returns an attribute that is a boolean."""
        return self.word(name, default) in ("true", "1")

    def sides(self, name: str, default: int) -> tuple[int, ...]:
        """Returns an attribute for rows and columns."""
        text = str(self.settings.get(name, "()"))[:100]
        if text.strip() in ("()", "[]", "None"):
            return (default, default)
        match = _LIST.match(text)
        if match is None:
            raise DamageError(f"node {truncated(self.name)} has {name}={truncated(text)}")
        sides = tuple(int(one) for one in match[1].split(","))
        return sides * 2 if len(sides) == 1 else sides


def _is_link(link: Any, number: int) -> bool:
    """Whether an input is the output of an earlier node."""
    if not isinstance(link, list) or not 2 <= len(link) <= 3:
        return False
    return all(isinstance(one, int) for one in link) and 0 <= link[0] < number and link[1] == 0


class _Graph:
    """A graph that grows by operators."""

    def __init__(self, arrays: Mapping[str, Tensor]) -> None:
        self._arrays = arrays
        self._nodes: list[Node] = []
        self._tensors: dict[str, Tensor] = {}
        self._outputs: list[str] = []  # of each node of the symbol
        self._inputs: list[str] = []  # variables without arrays
        self._flat: set[str] = set()  # outputs of two axes
        self._taken: set[str] = set()  # names of arrays that an operator has taken

    def add(self, operator: _Operator) -> None:
        """Adds a variable or an operator."""
        name = operator.name
        if operator.op == _VARIABLE:
            if name in self._arrays:
                self._tensors[name] = self._arrays[name]
            else:
                self._inputs.append(name)
            self._outputs.append(name)
            return
        inputs = [self._outputs[place] for place in operator.inputs]
        if not inputs:
            raise DamageError(f"node {truncated(name)} has no input")
        op, attributes = _operation(operator)
        if op == "Softmax":
            inputs = inputs[:1]
        if op == "BatchNormalization":
            inputs = self._norm(operator, inputs)
        if op == "Gemm" and operator.flag("flatten", "True") and inputs[0] not in self._flat:
            self._write("Flatten", f"{name}/flat", inputs[:1], {})
            inputs[0] = self._nodes[-1].output
        self._take(operator, inputs)
        output = self._write(op, name, inputs, attributes)
        if op in ("Flatten", "Gemm") or (op in ("Dropout", "Identity") and inputs[0] in self._flat):
            self._flat.add(output)
        self._outputs.append(output)

    def finished(self) -> OnnxGraph:
        """Returns the graph. A variable that no operator uses now, such as a label, is left out."""
        taken = {name for node in self._nodes for name in node.inputs}
        ends = [node.output for node in self._nodes if node.output not in taken]
        inputs = [name for name in self._inputs if name in taken]
        if not inputs or not ends:
            raise DamageError("it has no input or no output")
        if not {node.output for node in self._nodes}.isdisjoint((*self._inputs, *self._tensors)):
            raise DamageError("a variable has the name of an operator's output")
        return OnnxGraph(
            nodes=tuple(self._nodes),
            tensors=self._tensors,
            inputs=tuple(Value(name, FLOAT, (0, 0, 0, 0)) for name in inputs),
            outputs=tuple(Value(name, FLOAT, ()) for name in ends),
            producer="MXNet",
            opset=1,
            properties={},
        )

    def _take(self, operator: _Operator, inputs: list[str]) -> None:
        """Marks the arrays that an operator takes: a network is no larger than its file.

        Raises:
            DamageError: Another operator has taken one.
        """
        arrays = self._tensors.keys() & inputs
        if not arrays.isdisjoint(self._taken):
            raise DamageError(f"node {truncated(operator.name)} takes an array of another node")
        self._taken |= arrays

    def _write(self, op: str, name: str, inputs: list[str], settings: dict[str, Attribute]) -> str:
        """Adds a node, and returns the name of its output."""
        output = f"{name}:{len(self._nodes)}"  # a node may have the name of a variable
        self._nodes.append(Node(op, name, tuple(inputs), (output,), settings))
        return output

    def _norm(self, operator: _Operator, inputs: list[str]) -> list[str]:
        """Returns the inputs of a norm. With fix_gamma, its factor is 1, whatever is stored."""
        if len(inputs) == 3:
            inputs = [*inputs, *(f"{operator.name}_{one}" for one in _STATISTICS)]
            found = {name: self._arrays[name] for name in inputs[3:] if name in self._arrays}
            self._tensors.update(found)
        mean = self._tensors.get(inputs[3]) if len(inputs) == 5 else None
        if mean is None:
            raise DamageError(f"norm {truncated(operator.name)} has no running mean or variance")
        if operator.flag("fix_gamma", "True"):
            ones = f"{operator.name}/ones:{len(self._nodes)}"
            self._tensors[ones] = constant(ones, np.ones(mean.shape, np.float32))
            inputs = [inputs[0], ones, *inputs[2:]]
        return inputs


def _operation(operator: _Operator) -> tuple[str, dict[str, Attribute]]:
    """Returns the ONNX operation of an operator, and its attributes.

    An operator that networks of forebear do not have keeps its own name, for the error.
    """
    op = operator.op
    if op in ("Convolution", "Convolution_v1"):
        groups = operator.sides("num_group", 1)[0]
        dilation = operator.sides("dilate", 1)
        return "Conv", _window(operator) | {"dilations": dilation, "group": groups}
    if op in ("BatchNorm", "BatchNorm_v1") and operator.word("axis", "1") == "1":
        return "BatchNormalization", {"epsilon": float(operator.settings.get("eps", _NORM_EPS))}
    if op == "FullyConnected":
        return "Gemm", {"transB": 1}
    if op == "Activation":
        kind = operator.word("act_type", "")
        return _PLAIN.get(kind, kind), {}
    if op in ("Pooling", "Pooling_v1"):
        return _pool(operator)
    if op in _LOSSES:
        return "Softmax", {}
    return _PLAIN.get(op, op), {}


def _pool(operator: _Operator) -> tuple[str, dict[str, Attribute]]:
    kind = operator.word("pool_type", "max")
    if operator.flag("global_pool", "False"):
        return _GLOBAL.get(kind, f"{kind}-pool"), {}
    up = operator.word("pooling_convention", "valid") != "valid"
    settings = _window(operator)
    if kind != "max":  # of a whole map, which rounding and padding do not change
        return _POOLS.get(kind, f"{kind}-pool"), settings
    return "MaxPool", settings | {"ceil_mode": int(up)}


def _window(operator: _Operator) -> dict[str, Attribute]:
    """Returns the attributes of a window. MXNet pads both ends of an axis equally."""
    if operator.word("layout", "nchw") not in ("nchw", "none"):
        layout = truncated(operator.word("layout", ""))
        raise DamageError(f"node {truncated(operator.name)} has layout={layout}, not NCHW")
    return {
        "kernel_shape": operator.sides("kernel", 0),
        "strides": operator.sides("stride", 1),
        "pads": operator.sides("pad", 0) * 2,
    }
