"""Walks a graph from its input to its output, and reads a residual network off its nodes."""

from __future__ import annotations

from collections.abc import Callable

from forebear.limits import TABLE_UNITS
from forebear.tables.preprocessing import Preprocessing
from forebear.weights.graphs.chain import check_chain
from forebear.weights.graphs.facts import (
    ConvFact,
    GraphFacts,
    NormFact,
    PoolFact,
    StepFact,
    StrangerError,
    UnitFact,
)
from forebear.weights.graphs.head import at_head, read_head
from forebear.weights.graphs.image import preprocessing_of, read_image
from forebear.weights.graphs.layers import Row, normed, read_layer
from forebear.weights.graphs.links import Links, stranger
from forebear.weights.readers.onnx.records import Node

_JOINS = ("Add", "Sum")
_UNIT = "a residual unit, whose two branches meet in an Add"
_ROOT = ("Conv", "Pad", "MaxPool")


def walk(links: Links, base: Callable[[bool], Preprocessing]) -> GraphFacts:
    """Returns the residual network in a graph.

    Args:
        links: The graph.
        base: Returns the preprocessing before the graph; its argument says whether the root is that
            for small images, a convolution of stride 1 without a pool.

    Raises:
        StrangerError: It is another network. The message names the first node that differs.
    """
    image = read_image(links)
    x, side, root = image.name, image.side, list[ConvFact | PoolFact]()
    while (found := links.takers(x)) and len(found) == 1 and found[0].op in _ROOT:
        row, x, side = read_layer(links, found[0], side)
        if isinstance(row, StepFact):
            raise stranger(row.node, "a Conv or a MaxPool of several pixels")
        root.append(row)
    units = list[UnitFact]()
    while not at_head(links, x):
        unit, x, side = _unit(links, x, side)
        units.append(unit)
        if len(units) > TABLE_UNITS:
            raise StrangerError(f"the graph has more than {TABLE_UNITS:,} units", "fewer")
    if not root:
        raise StrangerError(
            "the graph does not begin with a convolution", "a convolution and units"
        )
    if not units:
        check_chain(root)
    last = [row for row in (units[-1].convs if units else root) if isinstance(row, ConvFact)][-1]
    head = read_head(links, x, last.channels, side)
    small = len(root) == 1 and isinstance(root[0], ConvFact) and root[0].window.stride == 1
    return GraphFacts(
        preprocessing=preprocessing_of(image, base(small)),
        in_channels=image.channels,
        root=tuple(root),
        units=tuple(units),
        head=head,
    )


def _unit(links: Links, x: str, side: int | None) -> tuple[UnitFact, str, int | None]:
    """Returns a residual unit, its output and the side of its maps."""
    found = links.takers(x)
    preact: NormFact | None = None
    starts = [(node, x) for node in found]
    norms = [node for node in found if node.op == "BatchNormalization"]
    if norms:
        preact, p = normed(links, norms[0])
        starts = [(node, p) for node in links.takers(p)]
        starts += [(node, x) for node in found if node is not norms[0]]
    if len(starts) != 2:
        if len(starts) == 1:
            raise stranger(starts[0][0], _UNIT)
        listed = ", ".join(node.shown for node, _ in starts[:4])
        raise StrangerError(f"{len(starts)} branches begin at {x[:80]!r} ({listed})", _UNIT)
    branches = [_branch(links, node, start, side) for node, start in starts]
    (first, join, _), (second, other, _) = branches
    if join is not other:
        raise stranger(other, f"an Add that also takes node {join.shown}")
    named = [links.name(name) for name in join.inputs]
    if len(named) != 2 or {*named} != {branches[0][2], branches[1][2]} or len({*named}) != 2:
        raise stranger(join, _UNIT)
    count = [sum(isinstance(row, ConvFact) for row in rows) for rows in (first, second)]
    place = 0 if count[0] > count[1] else 1
    rows, short = branches[place][0], branches[1 - place][0]
    convs = tuple(row for row in rows if isinstance(row, ConvFact))
    for row in rows:
        if not isinstance(row, ConvFact):
            raise stranger(row.node, "a Conv in the unit")
    if count[0] == count[1] or len(convs) < 2:
        raise stranger(join, "a unit of two or three convolutions, and a shortcut of at most one")
    y = links.use(join)
    relu = links.follows(y, "Relu") if preact is None else None
    unit = UnitFact(
        preact=preact,
        convs=convs,
        shortcut=_shortcut(short),
        taps_preact=preact is not None and starts[1 - place][1] != x,
        join=join,
        relu=relu is not None,
    )
    return unit, y if relu is None else links.use(relu), convs[-1].window.out_side


def _branch(links: Links, node: Node, x: str, side: int | None) -> tuple[list[Row], Node, str]:
    """Returns the layers of a branch, the addition at its end, and what it adds."""
    rows = list[Row]()
    while node.op not in _JOINS:
        row, x, side = read_layer(links, node, side)
        rows.append(row)
        node = links.only(x, _UNIT)
    return rows, node, x


def _shortcut(rows: list[Row]) -> ConvFact | tuple[StepFact, ...]:
    """Returns a shortcut: one projection, or parts without weights."""
    if len(rows) == 1 and isinstance(rows[0], ConvFact):
        if rows[0].relu:
            raise stranger(rows[0].node, "a projection without a Relu")
        return rows[0]
    for row in rows:
        if not isinstance(row, StepFact):
            raise stranger(row.node, "a shortcut that is the identity, or one projection")
    return tuple(row for row in rows if isinstance(row, StepFact))
