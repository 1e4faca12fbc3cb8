"""Reads the end of a graph: the last norm, the mean over each map, and the classifier."""

from __future__ import annotations

from forebear.weights.graphs.facts import HeadFact, NormFact, StrangerError
from forebear.weights.graphs.layers import normed
from forebear.weights.graphs.links import Links, stranger
from forebear.weights.readers.onnx.records import Node

MEANS = ("GlobalAveragePool", "ReduceMean", "AveragePool")
_FLAT = ("Flatten", "Reshape", "Squeeze")
_MEAN = "a mean over each whole map"
_CLASSIFIER = "a Gemm, a MatMul with an Add, or a Conv of one pixel with the classes"


def at_head(links: Links, x: str) -> bool:
    """Whether a tensor is what the head takes: no further unit follows."""
    found = links.takers(x)
    if len(found) == 1 and found[0].op == "BatchNormalization":
        relu = links.follows(found[0].output, "Relu")
        found = [found[0]] if relu is None else links.takers(relu.output)
    return not found or (len(found) == 1 and found[0].op in MEANS)


def read_head(links: Links, x: str, channels: int, side: int | None) -> HeadFact:
    """Returns what follows the last unit.

    Args:
        links: The graph.
        x: The output of the last unit.
        channels: Of it.
        side: Of its maps, in pixels; None if it is not known.

    Raises:
        StrangerError: A node is another.
    """
    postnorm: NormFact | None = None
    norm = links.follows(x, "BatchNormalization")
    if norm is not None:
        postnorm, x = normed(links, norm)
    pool = links.only(x, _MEAN)
    if pool.op not in MEANS:
        raise stranger(pool, _MEAN)
    x = _flat(links, links.use(pool))
    weight, bias, transposed, scales, classes, softmax = None, None, False, (1.0, 1.0), None, False
    if links.takers(x):
        node = links.only(x, _CLASSIFIER)
        if node.op not in ("Gemm", "MatMul", "Conv"):
            raise stranger(node, _CLASSIFIER)
        transposed = node.op == "MatMul" or (node.op == "Gemm" and not node.number("transB", 0))
        weight, array = links.array(node, 1, 4 if node.op == "Conv" else 2, "weight")
        inputs, classes = array.shape[:2] if transposed else array.shape[1::-1]
        plain = node.op != "Gemm" or not node.number("transA", 0)
        plain = plain and array.shape[2:] in ((), (1, 1)) and node.number("group", 1) == 1
        if not plain or inputs != channels or classes < 1:
            raise StrangerError(
                f"the weight of node {node.shown} has shape {list(array.shape)}",
                f"one linear layer of the {channels} features",
            )
        if node.op == "Gemm":
            scales = (node.number("alpha", 1.0), node.number("beta", 1.0))
        bias = _bias(links, node, 2, classes)
        x = _flat(links, links.use(node))
        add = links.follows(x, "Add")
        if add is not None and bias is None:
            place = 1 if links.name(add.inputs[0]) == x else 0
            bias, x = _bias(links, add, place, classes), links.use(add)
        last = links.follows(x, "Softmax")
        softmax = last is not None
        x = _flat(links, x if last is None else links.use(last))
    _check_mean(links, pool, side, known=classes is not None)
    _check_end(links, x)
    return HeadFact(
        postnorm=postnorm, weight=weight, bias=bias, transposed=transposed, scales=scales,
        classes=classes, softmax=softmax,
    )  # fmt: skip


def _flat(links: Links, x: str) -> str:
    """Skips the nodes that drop the axes of a map of one pixel."""
    while True:
        found = links.takers(x)
        if len(found) != 1 or found[0].op not in _FLAT or links.name(found[0].inputs[0]) != x:
            return x
        if found[0].op == "Flatten" and found[0].number("axis", 1) not in (1, -3):
            raise stranger(found[0], "a Flatten of axis 1")
        x = links.use(found[0])


def _bias(links: Links, node: Node, place: int, classes: int) -> str | None:
    if place >= len(node.inputs) or not node.inputs[place]:
        return None
    found = links.constant(node, place)
    if found is None or found.shape not in ((classes,), (1, classes)):
        raise StrangerError(f"the bias of node {node.shown} is another", f"{classes} constants")
    return links.name(node.inputs[place])


def _check_mean(links: Links, pool: Node, side: int | None, *, known: bool) -> None:
    """Checks that a pool takes the mean of the whole map.

    `known`: a linear layer takes one pixel of its output. Only a map of the size of the kernel
    gives that at stride 1, so that the graph takes images of one size.
    """
    if pool.op == "ReduceMean":
        axes = links.numbers(pool, "axes", 1)
        fits = axes is not None and sorted(axis % 4 for axis in axes) == [2, 3]
    elif pool.op == "AveragePool":
        kernel, strides = pool.numbers("kernel_shape", ()), pool.numbers("strides", (1, 1))
        whole = kernel == (side, side) or (known and side is None and strides == (1, 1))
        plain = not any(pool.numbers("pads", ())) and not pool.number("ceil_mode", 0)
        fits = whole and plain and pool.word("auto_pad", "NOTSET") in ("NOTSET", "VALID")
    else:
        fits = True
    if not fits:
        raise stranger(pool, _MEAN)


def _check_end(links: Links, x: str) -> None:
    """Checks that a tensor is the output, and that no branch is left."""
    found = links.takers(x)
    if found:
        raise stranger(found[0], "the end of the graph")
    names = {links.name(value.name) for value in links.graph.outputs}
    if x not in names:
        raise StrangerError(f"the output of the graph is not {x[:80]!r}", "the logits")
    for node in links.graph.nodes:
        if id(node) in links.used:
            for name in node.outputs:
                for other in links.takers(name):
                    if id(other) not in links.used:
                        raise stranger(other, "no further branch")
