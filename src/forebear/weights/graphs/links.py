"""Which node of a graph takes which tensor, and the constants among them."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from forebear.text import truncated
from forebear.weights.graphs.facts import StrangerError
from forebear.weights.readers.base import Array
from forebear.weights.readers.onnx.records import Node, OnnxGraph
from forebear.weights.readers.onnx.tensors import Tensor

_PASSING = ("Identity", "Dropout")  # nodes that change nothing in evaluation
# Other networks that have a node of this kind, of which forebear has none.
_STRANGERS = {
    "AveragePool": "a ResNet-D pools before its projections",
    "Concat": "an Inception or a DenseNet concatenates its branches",
    "Clip": "a MobileNet limits its activations",
    "LRN": "the first AlexNet normalises across channels",
    "Sigmoid": "an SE-ResNet or an EfficientNet weights its channels",
    "HardSigmoid": "a MobileNet weights its channels",
    "GlobalAveragePool": "an SE-ResNet weights its channels",
    "ReduceMean": "an SE-ResNet weights its channels",
    "Split": "a Res2Net or a ResNeSt splits its channels",
    "InstanceNormalization": "a network with group or instance norm",
    "GroupNormalization": "a BiT normalises groups of channels",
    "LayerNormalization": "a transformer or a ConvNeXt has layer norms",
    "LeakyRelu": "a Darknet has leaky ReLUs",
    "QuantizeLinear": "a quantised graph: pass the one before it was quantised",
    "DequantizeLinear": "a quantised graph: pass the one before it was quantised",
    "QLinearConv": "a quantised graph: pass the one before it was quantised",
    "com.microsoft.FusedConv": "ONNX Runtime optimised the graph: pass the one before",
}


class Links:
    """The nodes of a graph by the tensors that they take. Nodes that pass on are left out."""

    def __init__(self, graph: OnnxGraph, folder: Path) -> None:
        """Takes the graph, and the folder of its file."""
        self.graph, self._folder = graph, folder
        self.used: set[int] = set()  # the nodes that the network consists of, by id
        self._names: dict[str, str] = {}
        self._takers: defaultdict[str, list[Node]] = defaultdict(list)
        passing = [one for one in graph.nodes if one.op in _PASSING and one.inputs and one.output]
        for node in passing:
            self._names[node.output] = node.inputs[0]
        for node in graph.nodes:
            if node.output not in self._names and node.op != "Shape":  # which only feeds a Reshape
                for name in dict.fromkeys(map(self.name, node.inputs)):
                    self._takers[name].append(node)

    def name(self, tensor: str) -> str:
        """Returns the name of a tensor before the nodes that only pass it on."""
        passed = list[str]()
        while self._names.get(tensor, tensor) != tensor and len(passed) <= len(self._names):
            passed.append(tensor)
            tensor = self._names[tensor]
        self._names.update(dict.fromkeys(passed, tensor))  # so that a long chain is passed once
        return tensor

    def takers(self, tensor: str) -> list[Node]:
        """Returns the nodes that take a tensor."""
        return self._takers.get(self.name(tensor), [])

    def only(self, tensor: str, expected: str) -> Node:
        """Returns the one node that takes a tensor.

        Raises:
            StrangerError: There is none, or several.
        """
        found = self.takers(tensor)
        if len(found) == 1:
            return found[0]
        if not found:
            raise StrangerError(f"nothing takes {truncated(tensor)!r}", expected)
        raise StrangerError(
            f"{len(found)} nodes take {truncated(tensor)!r}, the first is {found[0].shown}",
            expected,
        )

    def follows(self, tensor: str, op: str) -> Node | None:
        """Returns the one node that takes a tensor, if it has this operation."""
        found = self.takers(tensor)
        return found[0] if len(found) == 1 and found[0].op == op else None

    def use(self, node: Node) -> str:
        """Marks a node as part of the network, and returns its output.

        Raises:
            StrangerError: It is marked already: the nodes form a circle.
        """
        if id(node) in self.used:
            raise StrangerError(f"node {node.shown} takes what it gives", "no circle")
        self.used.add(id(node))
        return self.name(node.output)

    def constant(self, node: Node, place: int) -> Tensor | None:
        """Returns an input of a node, if it is a constant."""
        name = node.inputs[place] if place < len(node.inputs) else ""
        return self.graph.tensors.get(self.name(name))

    def array(self, node: Node, place: int, axes: int, what: str) -> tuple[str, Tensor]:
        """Returns the name and the record of an input that has to be a constant.

        Raises:
            StrangerError: It is none, or has another number of axes.
        """
        found = self.constant(node, place)
        if found is None or len(found.shape) != axes:
            raise StrangerError(
                f"the {what} of node {node.shown} is no constant of {axes} axes", "one"
            )
        return self.name(node.inputs[place]), found

    def values(self, name: str) -> Array:
        """Returns the array of a constant."""
        return self.graph.tensors[name].values(self._folder)

    def numbers(self, node: Node, attribute: str, place: int) -> tuple[int, ...] | None:
        """Returns integers that an attribute or, in later versions, an input has; None if none."""
        found = node.numbers(attribute, ())
        constant = self.constant(node, place)
        if found or constant is None or len(constant.shape) > 1 or sum(constant.shape) > 64:
            return found or None
        return tuple(int(value) for value in constant.values(self._folder).reshape(-1))


def stranger(node: Node, expected: str) -> StrangerError:
    """Returns the error for a node that is out of place."""
    return StrangerError(f"node {node.shown} is there", expected, _STRANGERS.get(node.op, ""))
