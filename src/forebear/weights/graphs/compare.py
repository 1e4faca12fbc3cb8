"""Compares a plan with a graph, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from forebear.network.plan.plan import Layer, Plan, Unit
from forebear.weights.graphs.facts import ConvFact, GraphFacts, PoolFact, UnitFact


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a plan and a graph differ."""

    place: int  # number of layers before it
    what: str
    expected: str


def first_difference(plan: Plan, facts: GraphFacts) -> Difference | None:
    """Returns the first layer of a graph that the plan does not have; None if all are equal."""
    found = [*_differences(plan, facts)]
    return min(found, key=lambda one: one.place) if found else None


def before_units(plan: Plan, facts: GraphFacts) -> list[Layer]:
    """Returns the layers before the units of a graph: all convolutions and pools without units."""
    if facts.units:
        return [*plan.root]
    return [layer for layer in plan.layers() if layer.kind in ("conv", "pool")]


def _differences(plan: Plan, facts: GraphFacts) -> Iterator[Difference]:
    place = 0
    for layer, row in zip(before_units(plan, facts), facts.root, strict=True):
        place += 1
        why = _conv(layer, row) if isinstance(row, ConvFact) else _pool(layer, row)
        if why:
            yield Difference(place, f"node {row.node.shown} {why[0]}", why[1])
    for unit, fact in zip(plan.units(), facts.units, strict=True):
        place += 1
        for node, what, expected in _unit(unit, fact):
            yield Difference(place, f"node {node} {what}", expected)
    if (plan.postnorm is None) != (facts.head.postnorm is None):
        yield Difference(place + 1, "its last norm is another", "one norm in version 2")


def _unit(unit: Unit, fact: UnitFact) -> Iterator[tuple[str, str, str]]:
    join = fact.join.shown
    if (unit.preact is None) != (fact.preact is None):
        yield join, f"ends a unit with{'out' if fact.preact is None else ''} a norm first", "others"
    if unit.relu != fact.relu:
        expected = "a Relu after each addition" if unit.relu else "no Relu after the additions"
        yield join, f"has {'a' if fact.relu else 'no'} Relu after it", expected
    if len(unit.convs) != len(fact.convs):
        yield join, f"ends a unit of {len(fact.convs)} convolutions", f"{len(unit.convs)}"
        return
    for layer, conv in zip(unit.convs, fact.convs, strict=True):
        why = _conv(layer, conv)
        if why:
            yield conv.node.shown, *why
    short, layer_ = fact.shortcut, unit.shortcut
    if layer_ is None:
        return
    if isinstance(short, ConvFact) != (layer_.kind == "conv"):
        got = "a projection" if isinstance(short, ConvFact) else "no projection"
        yield join, f"adds a shortcut with {got}", "projections where the channels change"
    elif isinstance(short, ConvFact):
        why = _conv(layer_, short)
        if why:
            yield short.node.shown, *why
    else:
        stride = zeros = 1
        for step in short:
            stride *= step.stride
        before, after = (sum(step.zeros[side] for step in short) for side in (0, 1))
        zeros = (before, after) == layer_.zeros
        if stride != layer_.stride or not zeros:
            what = f"adds a shortcut of stride {stride} with {before + after} channels of zeros"
            yield join, what, f"stride {layer_.stride} and {sum(layer_.zeros)} channels"
    if unit.taps_preact != fact.taps_preact:
        where = "the norm of its unit" if unit.taps_preact else "the input of its unit"
        yield join, "adds a shortcut that starts elsewhere", f"one that starts at {where}"


def _conv(layer: Layer, fact: ConvFact) -> tuple[str, str] | None:
    """Returns what is different in a convolution, and what was expected."""
    if layer.kind != "conv":
        return "is a convolution", f"a {layer.kind}"
    window = fact.window
    rate = layer.rate if layer.kernel > 1 else window.rate
    pairs_ = (
        ("channels", fact.channels, layer.channels),
        ("input channels", fact.in_channels, layer.in_channels),
        ("groups", fact.groups, layer.groups),
        ("kernel", window.kernel, layer.kernel),
        ("stride", window.stride, layer.stride),
        ("dilation", window.rate, rate),
    )
    for name, found, expected in pairs_:
        if found != expected:
            return f"has {name} {found}", f"{name} {expected}, as in {layer.path}"
    fits = window.pads_same if layer.padding == "same" else window.pads_equally(layer.padding)
    if not fits:
        return f"has pads {_shown(fact)}", f"{layer.padding} on each side, as in {layer.path}"
    if fact.relu != (layer.activation == "relu"):
        return f"has {'a' if fact.relu else 'no'} Relu after it", (
            f"{'a' if layer.activation == 'relu' else 'no'} Relu, as in {layer.path}"
        )
    return None


def _pool(layer: Layer, fact: PoolFact) -> tuple[str, str] | None:
    window = fact.window
    if (layer.kind, layer.kernel, layer.stride, window.rate) != (
        "pool", window.kernel, window.stride, 1,
    ):  # fmt: skip
        return "is another pool", f"a pool of {layer.kernel} pixels and stride {layer.stride}"
    fits = window.pads_same if layer.padding == "same" else window.pads_equally(layer.padding)
    return None if fits else (f"has pads {_shown(fact)}", f"{layer.padding} on each side")


def _shown(fact: ConvFact | PoolFact) -> str:
    pads = fact.window.pads
    return pads if isinstance(pads, str) else str(list(pads))
