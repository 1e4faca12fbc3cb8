"""Reads single layers off the nodes of a graph: convolutions with their norms, pools, shortcuts."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from forebear.limits import KERNEL
from forebear.weights.graphs.facts import (
    ConvFact,
    NormFact,
    Pads,
    PoolFact,
    StepFact,
    StrangerError,
    Window,
)
from forebear.weights.graphs.links import Links, stranger
from forebear.weights.readers.onnx.records import Node

Row = ConvFact | PoolFact | StepFact
_LOWEST = -1e30  # a padding value below it stands for -inf
_WHOLE = 2**30  # the end of a slice that reaches the end of the axis


def read_norm(links: Links, node: Node) -> NormFact:
    """Returns a BatchNormalization node, which the caller marks as used.

    Raises:
        StrangerError: It normalises by the statistics of the batch, or its arrays are no constants.
    """
    training = node.number("training_mode", 0) or node.number("spatial", 1) != 1
    if training or any(node.outputs[1:]):
        raise StrangerError(
            f"node {node.shown} is exported for training",
            "a norm by its running mean and variance",
        )
    places = ("scale", "shift", "mean", "variance")
    arrays = [links.array(node, place, 1, what) for place, what in enumerate(places, start=1)]
    if len({one.shape for _, one in arrays}) != 1:
        raise StrangerError(f"the arrays of node {node.shown} differ in size", "equal sizes")
    weight, bias, mean, variance = (name for name, _ in arrays)
    epsilon = float(f"{node.number('epsilon', 1e-5):.6g}")  # a float32 in the file
    if not 0 < epsilon <= 1:
        raise StrangerError(f"epsilon of node {node.shown} is {epsilon}", "a number from 0 to 1")
    return NormFact(
        node=node, weight=weight, bias=bias, mean=mean, variance=variance, epsilon=epsilon,
        channels=arrays[0][1].shape[0],
    )  # fmt: skip


def normed(links: Links, node: Node) -> tuple[NormFact, str]:
    """Returns a norm with the ReLU after it, and the name of its output.

    Raises:
        StrangerError: No ReLU follows.
    """
    norm, x = read_norm(links, node), links.use(node)
    relu = links.only(x, f"a Relu after the norm {node.shown}")
    if relu.op != "Relu":
        raise stranger(relu, f"a Relu after the norm {node.shown}")
    return replace(norm, relu=True), links.use(relu)


def read_layer(links: Links, node: Node, side: int | None) -> tuple[Row, str, int | None]:
    """Returns a convolution, a pool or a part of a shortcut; its output, and the map's side.

    Args:
        links: The graph.
        node: The first node.
        side: Of the map before it, in pixels; None if it is not known.

    Raises:
        StrangerError: The node is another.
    """
    pads, fill = (0, 0, 0, 0), 0.0
    if node.op == "Pad":
        around, fill = _padding(links, node)
        x = links.use(node)
        if any(around[1::4]):  # zeros as channels
            if any(around[0::4] + around[2::4] + around[3::4]) or fill:
                raise StrangerError(f"node {node.shown} pads more than channels", "zero channels")
            return StepFact(node=node, zeros=(around[1], around[5])), x, side
        pads = (around[2], around[3], around[6], around[7])
        node = links.only(x, "a Conv or a MaxPool after the Pad")
    if node.op == "Conv" and not fill:
        conv, x = _conv(links, node, pads, side)
        return conv, x, conv.window.out_side
    if node.op == "Slice" and not any(pads):
        step = StepFact(node=node, stride=_slice(links, node))
        return step, links.use(node), None if side is None else -(-side // step.stride)
    if node.op in ("MaxPool", "AveragePool"):
        window = _window(node, node.numbers("kernel_shape", ()), pads, side)
        if window.kernel == 1 and window.pads_equally(0):
            return StepFact(node=node, stride=window.stride), links.use(node), window.out_side
        if node.op == "MaxPool" and (not any(pads) or fill == 0 or fill < _LOWEST):
            kind: Literal["lowest", "zero"] = "zero" if any(pads) and fill == 0 else "lowest"
            return PoolFact(node=node, window=window, fill=kind), links.use(node), window.out_side
    raise stranger(node, "a Conv, or a MaxPool after the first one")


def _conv(links: Links, node: Node, pads: Pads, side: int | None) -> tuple[ConvFact, str]:
    weight, kernel = links.array(node, 1, 4, "kernel")
    groups = int(node.number("group", 1))
    out, inside, *sides = kernel.shape
    window = _window(node, node.numbers("kernel_shape", tuple(sides)), pads, side)
    if tuple(sides) != (window.kernel,) * 2 or groups < 1 or min(out, inside) < 1:
        raise StrangerError(
            f"the kernel of node {node.shown} is {list(kernel.shape)} in {groups} groups",
            f"a square kernel of {window.kernel} pixels",
        )
    bias = None
    if len(node.inputs) > 2 and node.inputs[2]:
        bias, values = links.array(node, 2, 1, "bias")
        if values.shape != (out,):
            raise StrangerError(f"the bias of node {node.shown} has another size", f"{out} values")
    x, norm = links.use(node), None
    after = links.follows(x, "BatchNormalization")
    if after is not None:
        norm = read_norm(links, after)
        if norm.channels != out:
            raise StrangerError(f"norm {after.shown} has {norm.channels} values", f"{out} values")
        x = links.use(after)
    relu = links.follows(x, "Relu")
    x = x if relu is None else links.use(relu)
    fact = ConvFact(
        node=node, weight=weight, bias=bias, channels=out, in_channels=inside * groups,
        groups=groups, window=window, norm=norm, relu=relu is not None,
    )  # fmt: skip
    return fact, x


def _window(node: Node, kernel: tuple[int, ...], pads: Pads, side: int | None) -> Window:
    """Returns the geometry of a node; `pads` are those of a Pad before it."""
    strides, rates = node.numbers("strides", (1, 1)), node.numbers("dilations", (1, 1))
    axes = (kernel, strides, rates)
    fits = all(len(one) == 2 and one[0] == one[1] and 0 < one[0] <= KERNEL for one in axes)
    own, auto = node.numbers("pads", (0, 0, 0, 0)), node.word("auto_pad", "NOTSET")
    if not fits or len(own) != 4 or not all(0 <= pad <= KERNEL for pad in (*own, *pads)):
        raise StrangerError(
            f"node {node.shown} has kernel {list(kernel)}, strides {list(strides)}, dilations "
            f"{list(rates)} and pads {list(own)}",
            "one positive number for both axes, and four pads",
        )
    whole: Pads | Literal["same"] = _sum(own if auto == "NOTSET" else (0, 0, 0, 0), pads)
    if auto == "SAME_UPPER" or (auto == "SAME_LOWER" and strides[0] == 1 and kernel[0] % 2):
        whole = "same"
    elif auto not in ("NOTSET", "VALID"):
        raise StrangerError(f"node {node.shown} has auto_pad {auto!r}", "NOTSET or SAME_UPPER")
    window = Window(kernel=kernel[0], stride=strides[0], rate=rates[0], pads=whole, side=side)
    return _ceiled(node, window) if node.number("ceil_mode", 0) else window


def _sum(first: tuple[int, ...], second: tuple[int, ...]) -> Pads:
    above, left, below, right = (a + b for a, b in zip(first, second, strict=True))
    return above, left, below, right


def _ceiled(node: Node, window: Window) -> Window:
    """Returns a pool whose last window may reach over the edge, as one that pads."""
    if window.side is None or window.pads == "same":
        raise StrangerError(
            f"node {node.shown} has ceil_mode 1, as Caffe's pools, for any input size",
            "ceil_mode 0, or a graph for one input size",
        )
    above, left, below, right = window.pads
    rest = (window.side + above + below - window.rate * (window.kernel - 1) - 1) % window.stride
    more = (window.stride - rest) % window.stride
    return replace(window, pads=(above, left, below + more, right + more))


def _padding(links: Links, node: Node) -> tuple[tuple[int, ...], float]:
    """Returns the eight numbers of pixels of a Pad node, and its value."""
    around = links.numbers(node, "pads", 1)
    value = links.constant(node, 2)
    fill = node.number("value", 0.0)
    if value is not None and value.shape in ((), (1,)):
        fill = float(links.values(links.name(node.inputs[2])).reshape(-1)[0])
    axes = len(node.inputs) < 4 or not node.inputs[3]
    fits = around is not None and len(around) == 8 and axes
    if not fits or around is None or node.word("mode", "constant") != "constant":
        raise StrangerError(f"node {node.shown} pads in another way", "constants on four axes")
    if any(around[0::4]) or min(around) < 0 or np.isnan(fill):
        raise StrangerError(f"node {node.shown} pads by {list(around)}", "no images, nothing cut")
    return around, fill


def _slice(links: Links, node: Node) -> int:
    """Returns the step of a Slice node that takes every so many pixels along both axes, or one."""
    starts, ends, axes, steps = (
        links.numbers(node, name, place)
        for place, name in enumerate(("starts", "ends", "axes", "steps"), start=1)
    )
    fits = starts is not None and ends is not None and axes is not None and steps is not None
    if fits and starts is not None and ends is not None and axes is not None and steps is not None:
        kept = {axis: step for axis, step in zip(axes, steps, strict=False) if step != 1}
        whole = all(end >= _WHOLE for end in ends) and not any(starts)
        if whole and {axis % 4 for axis in kept} == {2, 3} and len({*kept.values()}) == 1:
            return max(1, next(iter(kept.values())))
    raise stranger(node, "a Slice with one step along rows and columns")
