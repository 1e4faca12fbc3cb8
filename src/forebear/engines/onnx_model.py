"""Writes a network as an ONNX graph, one node per operation, named after the network's own paths.

The graph is built from the plan, as the modules are, so that paddings stay those of the dialect.
Operators: https://onnx.ai/onnx/operators, opset 17.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forebear.engines.classifier import identity_of
from forebear.engines.graph_card import GraphCard
from forebear.engines.lower import lower
from forebear.engines.torch_engine import mean_and_scale
from forebear.errors import WeightsError
from forebear.files import write_whole
from forebear.network.layers import same_pads
from forebear.network.network import Network
from forebear.network.plan.plan import Layer, Unit
from forebear.tables.preprocessing import Preprocessing
from forebear.version import __version__

OPSET = 17
IR_VERSION = 9


def write_onnx(
    network: Network,
    path: Path,
    *,
    pixels: bool = True,
    any_size: bool = False,
    lowered: bool = True,
) -> GraphCard:
    """Writes a network as an ONNX file, atomically, and returns its card.

    Args:
        network: In evaluation mode. Its card supplies classes and preprocessing.
        path: The file, which is replaced if it exists.
        pixels: Whether the input is "pixels", [N, H, W, C] in 0..255, and the graph applies the
            mean, the scale and the channel order. Otherwise it is "images", [N, C, H, W] floats
            after all of the preprocessing.
        any_size: Whether height and width are dynamic too.
        lowered: Whether norms are folded and strides moved; otherwise each layer stays as it is.

    Raises:
        WeightsError: A layer cannot be written for images of any size, or the preprocessing gives
            other channels than the network takes.
    """
    import onnx

    model, card = build(network, pixels=pixels, any_size=any_size, lowered=lowered)
    write_whole(path, lambda partial: onnx.save(model, str(partial)))
    return card


def build(
    network: Network, *, pixels: bool = True, any_size: bool = False, lowered: bool = True
) -> tuple[Any, GraphCard]:
    """Returns the ONNX model, an onnx.ModelProto, and its card. The arguments are `write_onnx`'s.

    Raises:
        WeightsError: A layer cannot be written for images of any size.
    """
    from onnx import TensorProto, helper

    rule, plan = network.preprocessing, network.plan
    if pixels and plan.in_channels != rule.channels:
        raise WeightsError(
            f"{network.table.name}: it takes {plan.in_channels} channels, but its preprocessing "
            f"gives {rule.channels}. Expected as many. Set the preprocessing of its card."
        )
    kept = lower(network, keep_input=not pixels) if lowered else network
    sides = None if any_size else rule.shape
    graph = _Graph(kept, sides)
    dtype = "float32" if rule.interpolation == "tf-bilinear" or not pixels else "uint8"
    element = TensorProto.UINT8 if dtype == "uint8" else TensorProto.FLOAT
    axes: tuple[Any, Any] = ("height", "width") if sides is None else sides
    if pixels:
        shape = ["batch", *axes, rule.channels]
        x = _arithmetic(graph, "pixels", kept.preprocessing)
    else:
        shape, x = ["batch", plan.in_channels, *axes], "images"
    _network(graph, x)
    output = "features" if plan.num_classes is None else "logits"
    graph.nodes[-1].output[0] = output
    card = GraphCard(
        network=network.table.name,
        dialect=network.dialect.name,
        preprocessing=rule,
        classes=network.classes,
        takes="pixels" if pixels else "images",
        dtype="uint8" if dtype == "uint8" else "float32",
        size=rule.size,
        any_size=any_size,
        identity=identity_of(network),
        metrics=network.card.metrics,
        provenance=network.card.provenance,
        calibration=network.card.calibration,
        multi_label=network.card.multi_label,
    )
    maps = [] if plan.global_pool else ["rows", "columns"]
    whole = helper.make_graph(
        graph.nodes,
        network.table.name,
        [helper.make_tensor_value_info("pixels" if pixels else "images", element, shape)],
        [
            helper.make_tensor_value_info(
                output, TensorProto.FLOAT, ["batch", plan.num_classes or plan.features, *maps]
            )
        ],
        graph.arrays,
    )
    model = helper.make_model(
        whole,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="forebear",
        producer_version=__version__,
    )
    helper.set_model_props(model, card.properties())
    return model, card


class _Graph:
    """Collects the nodes and the arrays of a graph, in execution order."""

    def __init__(self, network: Network, sides: tuple[int, int] | None) -> None:
        """Begins an empty graph.

        Args:
            network: Supplies the plan and the arrays.
            sides: Height and width of the input in pixels; None for any.
        """
        self.plan, self.dialect = network.plan, network.dialect
        self.state = {name: array.detach() for name, array in network.state_dict().items()}
        self.sides = sides  # height and width of the current map; None if they are not known
        self.positive = False  # whether the current map has no negative values
        self.nodes: list[Any] = []
        self.arrays: list[Any] = []

    def node(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        """Adds a node whose only output has its name."""
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def array(self, name: str, values: NDArray[Any]) -> str:
        """Adds a constant array."""
        from onnx import numpy_helper

        self.arrays.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def stored(self, name: str) -> str:
        return self.array(name, self.state[name].float().cpu().numpy())


def _arithmetic(graph: _Graph, x: str, rule: Preprocessing) -> str:
    """Adds what makes a network's input of pixels."""
    from onnx import TensorProto

    mean, scale = mean_and_scale(rule)
    x = graph.node("Cast", [x], "input.float", to=TensorProto.FLOAT)
    x = graph.node("Transpose", [x], "input.channels_first", perm=[0, 3, 1, 2])
    if rule.order == "BGR":
        order = graph.array("input.order", np.array([2, 1, 0], np.int64))
        x = graph.node("Gather", [x, order], "input.bgr", axis=1)
    if any(mean):
        held = graph.array("input.mean", np.array(mean, np.float32)[:, None, None])
        x = graph.node("Sub", [x, held], "input.centred")
    if set(scale) != {1.0}:
        held = graph.array("input.scale", np.array(scale, np.float32)[:, None, None])
        x = graph.node("Mul", [x, held], "input.scaled")
    return x


def _network(graph: _Graph, x: str) -> str:
    """Adds all layers and units, and returns the name of the output."""
    for layer in (*graph.plan.root, *graph.plan.body):
        x = _layer(graph, x, layer)
    for unit in graph.plan.units():
        x = _unit(graph, x, unit)
    for layer in graph.plan.head():
        x = _layer(graph, x, layer)
    return x


def _unit(graph: _Graph, x: str, unit: Unit) -> str:
    """Adds a residual unit: its pre-activation, its shortcut, its convolutions and the sum."""
    sides, positive = graph.sides, graph.positive
    p = x if unit.preact is None else _layer(graph, x, unit.preact)
    shortcut = None
    if unit.shortcut is not None:
        shortcut = _layer(graph, p if unit.taps_preact else x, unit.shortcut)
        graph.sides, graph.positive = sides, unit.preact is not None or positive
    for layer in unit.convs:
        p = _layer(graph, p, layer)
    graph.positive = unit.relu
    if shortcut is not None:
        p = graph.node("Add", [shortcut, p], f"{unit.path}.sum")
    return graph.node("Relu", [p], unit.path) if unit.relu else p


def _layer(graph: _Graph, x: str, layer: Layer) -> str:
    """Adds one layer with its norm and its activation."""
    makers: dict[str, Callable[[_Graph, str, Layer], str]] = {
        "conv": _conv,
        "norm": _norm,
        "pool": _pool,
        "identity": _identity,
        "average": _average,
        "dropout": lambda _, x, __: x,
        "mean": _mean,
        "logits": _logits,
    }
    x = makers[layer.kind](graph, x, layer)
    if layer.kind in ("conv", "norm"):
        x = _activated(graph, x, layer)
    if graph.sides is not None and layer.kind != "logits":
        height, width = graph.sides
        graph.sides = layer.out_side(height), layer.out_side(width)
    return x


def _conv(graph: _Graph, x: str, layer: Layer) -> str:
    path = f"{layer.path}.conv"
    inputs = [x, graph.stored(f"{path}.weight")]
    if layer.bias or f"{path}.bias" in graph.state:
        inputs.append(graph.stored(f"{path}.bias"))
    x = graph.node(
        "Conv", inputs, path, kernel_shape=[layer.kernel] * 2, strides=[layer.stride] * 2,
        dilations=[layer.rate] * 2, group=layer.groups, **_padding(graph, layer),
    )  # fmt: skip
    if layer.norm:
        x = _normed(graph, x, layer)
    graph.positive = False
    return x


def _norm(graph: _Graph, x: str, layer: Layer) -> str:
    graph.positive = False
    return _normed(graph, x, layer)


def _normed(graph: _Graph, x: str, layer: Layer) -> str:
    path = f"{layer.path}.norm"
    names = ("weight", "bias", "running_mean", "running_var")
    inputs = [x, *(graph.stored(f"{path}.{name}") for name in names)]
    return graph.node("BatchNormalization", inputs, path, epsilon=graph.dialect.norm_eps)


def _activated(graph: _Graph, x: str, layer: Layer) -> str:
    if layer.activation == "none":
        return x
    graph.positive = layer.activation == "relu"
    kind = "Relu" if graph.positive else "HardSwish"
    return graph.node(kind, [x], layer.path)


def _pool(graph: _Graph, x: str, layer: Layer) -> str:
    padding = _padding(graph, layer)
    if layer.fill == "zero" and not graph.positive and any(padding.get("pads", [1])):
        if "pads" not in padding:
            raise _fixed(graph, layer)
        above, left, below, right = padding["pads"]
        held = np.array([0, 0, above, left, 0, 0, below, right], np.int64)
        x = graph.node("Pad", [x, graph.array(f"{layer.path}.pads", held)], f"{layer.path}.pad")
        padding = {"pads": [0, 0, 0, 0]}
    return graph.node(
        "MaxPool", [x], layer.path, kernel_shape=[layer.kernel] * 2,
        strides=[layer.stride] * 2, dilations=[layer.rate] * 2, **padding,
    )  # fmt: skip


def _identity(graph: _Graph, x: str, layer: Layer) -> str:
    if layer.stride > 1:  # a max pool over single values
        x = graph.node(
            "MaxPool", [x], f"{layer.path}.strided", kernel_shape=[1, 1],
            strides=[layer.stride] * 2,
        )  # fmt: skip
    if any(layer.zeros):
        before, after = layer.zeros
        held = np.array([0, before, 0, 0, 0, after, 0, 0], np.int64)
        x = graph.node("Pad", [x, graph.array(f"{layer.path}.zeros", held)], layer.path)
    return x


def _average(graph: _Graph, x: str, layer: Layer) -> str:
    if layer.side == 1:
        return graph.node("GlobalAveragePool", [x], layer.path)
    if graph.sides == (layer.side, layer.side):
        return x
    if graph.sides is None or any(side % layer.side for side in graph.sides):
        raise _fixed(graph, layer)
    steps = [side // layer.side for side in graph.sides]
    return graph.node("AveragePool", [x], layer.path, kernel_shape=steps, strides=steps)


def _mean(graph: _Graph, x: str, layer: Layer) -> str:
    return graph.node("ReduceMean", [x], layer.path, axes=[2, 3], keepdims=0)


def _logits(graph: _Graph, x: str, layer: Layer) -> str:
    weight, bias = (f"{layer.path}.{name}" for name in ("weight", "bias"))
    if graph.plan.global_pool:
        inputs = [x, graph.stored(weight), graph.stored(bias)]
        return graph.node("Gemm", inputs, layer.path, transB=1)
    kernel = graph.state[weight].float().cpu().numpy()[:, :, None, None]
    inputs = [x, graph.array(weight, kernel), graph.stored(bias)]
    return graph.node("Conv", inputs, layer.path, kernel_shape=[1, 1])


def _padding(graph: _Graph, layer: Layer) -> dict[str, Any]:
    """Returns the attributes for the padding of a convolution or a pool."""
    if layer.padding != "same":
        return {"pads": [layer.padding * layer.rate] * 4}
    if graph.sides is not None:
        (above, below), (left, right) = (same_pads(layer, side) for side in graph.sides)
        return {"pads": [above, left, below, right]}
    period = layer.step * layer.dense
    found = {same_pads(layer, side) for side in range(8 * period, 9 * period)}
    if len(found) == 1:
        before, after = found.pop()
        return {"pads": [before, before, after, after]}
    if layer.dense == layer.rate == 1:
        return {"auto_pad": "SAME_UPPER"}
    raise _fixed(graph, layer)


def _fixed(graph: _Graph, layer: Layer) -> WeightsError:
    return WeightsError(
        f"{graph.plan.table.name}: its layer {layer.path} cannot be written for this input "
        "size. Expected a padding that does not depend on the size, and average pools that "
        "divide it. Export it for one input size, without any size."
    )
