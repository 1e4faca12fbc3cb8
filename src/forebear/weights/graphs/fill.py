"""Computes the arrays of a plan from those of a graph, exactly but for rounding.

A norm that the exporter folded comes back as one that changes nothing but its bias. A bias before a
norm goes into the running mean, a norm that the plan does not have into the kernel before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forebear.network.plan.cost import arrays as arrays_of
from forebear.network.plan.plan import Layer, Plan
from forebear.weights.graphs.compare import before_units
from forebear.weights.graphs.facts import ConvFact, GraphFacts, HeadFact, NormFact
from forebear.weights.graphs.links import Links
from forebear.weights.readers.base import Array, Arrays
from forebear.weights.readers.errors import reading
from forebear.weights.readers.graph_file import GraphFile
from forebear.weights.variable_names import Pair, pairs

_Make = Callable[[str], Array]  # the name of an array in its module -> its values


class GraphArrays(Arrays):
    """The arrays of a network in a graph, under the names in the dialect's library."""

    def __init__(self, file: GraphFile, plan: Plan, links: Links, facts: GraphFacts) -> None:
        """Reads no array yet.

        Args:
            file: The file of the graph.
            plan: A network of the layers of the graph.
            links: The graph.
            facts: What was read off it.
        """
        self.path, self.format, self._expected = file.path, file.format, file.expected
        made = {layer.path: make for layer, make in _makers(plan, links, facts)}
        counted = (pair for pair in pairs(plan) if pair.needed)
        self._pairs = {pair.theirs: (pair, *_place(pair, made)) for pair in counted}

    def __iter__(self) -> Iterator[str]:
        return iter(self._pairs)

    def __getitem__(self, name: str) -> Array:
        pair, make, array = self._pairs[name]
        with reading(self.path, self._expected, name):
            values = make(array).astype(np.float32, copy=False).reshape(pair.shape)
        return pair.layout.store(values)

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns the shape of an array."""
        return self._pairs[name][0].their_shape

    def dtype(self, name: str) -> np.dtype[Any]:
        """Returns float32, the dtype of every array."""
        return np.dtype(np.float32)

    def close(self) -> None:
        """Does nothing: the file is closed when the last array is gone."""


def _place(pair: Pair, made: dict[str, _Make]) -> tuple[_Make, str]:
    path = max((one for one in made if pair.ours.startswith(f"{one}.")), key=len)
    return made[path], pair.ours.removeprefix(f"{path}.")


def _makers(plan: Plan, links: Links, facts: GraphFacts) -> Iterator[tuple[Layer, _Make]]:
    """Yields every layer with arrays, and what computes them."""
    epsilon = plan.dialect.norm_eps
    for layer, row in zip(before_units(plan, facts), facts.root, strict=True):
        if isinstance(row, ConvFact):
            yield layer, _conv(links, layer, row, epsilon)
    for unit, fact in zip(plan.units(), facts.units, strict=True):
        if unit.preact is not None and fact.preact is not None:
            yield unit.preact, _norm(links, fact.preact, epsilon)
        if unit.shortcut is not None and isinstance(fact.shortcut, ConvFact):
            yield unit.shortcut, _conv(links, unit.shortcut, fact.shortcut, epsilon)
        for layer, conv in zip(unit.convs, fact.convs, strict=True):
            yield layer, _conv(links, layer, conv, epsilon)
    head = facts.head
    if plan.postnorm is not None and head.postnorm is not None:
        yield plan.postnorm, _norm(links, head.postnorm, epsilon)
    if plan.logits is not None:
        yield plan.logits, _logits(links, plan.logits, head)


def _wide(links: Links, name: str) -> NDArray[np.float64]:
    return links.values(name).astype(np.float64)


def _norm(links: Links, fact: NormFact, epsilon: float) -> _Make:
    names = {
        "norm.weight": fact.weight, "norm.bias": fact.bias, "norm.running_mean": fact.mean,
        "norm.running_var": fact.variance,
    }  # fmt: skip

    def make(array: str) -> Array:
        if array == "norm.running_var" and fact.epsilon != epsilon:  # the sum stays the same
            return _wide(links, fact.variance) + (fact.epsilon - epsilon)
        return links.values(names[array])

    return make


def _conv(links: Links, layer: Layer, fact: ConvFact, epsilon: float) -> _Make:
    def bias() -> NDArray[np.float64]:
        return np.zeros(layer.channels) if fact.bias is None else _wide(links, fact.bias)

    def make(array: str) -> Array:
        if fact.norm is not None and not layer.norm:
            return _folded(links, fact, fact.norm, bias())[array]
        if array == "conv.weight":
            return links.values(fact.weight)
        if array == "conv.bias":
            return bias() if fact.norm is not None or not layer.norm else np.zeros(layer.channels)
        if fact.norm is None:  # folded into the kernel by who wrote the graph
            return {
                "norm.weight": np.ones(layer.channels),
                "norm.bias": bias(),
                "norm.running_mean": np.zeros(layer.channels),
                "norm.running_var": np.full(layer.channels, 1 - epsilon),
            }[array]
        found = _norm(links, fact.norm, epsilon)(array)
        if array == "norm.running_mean" and fact.bias is not None and not layer.bias:
            return found.astype(np.float64) - bias()
        return found

    return make


def _folded(
    links: Links, fact: ConvFact, norm: NormFact, bias: NDArray[np.float64]
) -> dict[str, Array]:
    """Returns a convolution with the norm after it folded in."""
    gamma, beta, mean, variance = (
        _wide(links, name) for name in (norm.weight, norm.bias, norm.mean, norm.variance)
    )
    scale = gamma / np.sqrt(variance + norm.epsilon)
    kernel = _wide(links, fact.weight) * scale[:, None, None, None]
    return {"conv.weight": kernel, "conv.bias": beta + (bias - mean) * scale}


def _logits(links: Links, layer: Layer, head: HeadFact) -> _Make:
    def make(array: str) -> Array:
        name = head.weight if array == "weight" else head.bias
        if name is None:
            return np.zeros(arrays_of(layer)[array])
        values, scale = links.values(name), head.scales[array != "weight"]
        if array == "weight" and head.transposed:
            values = values.T
        return values if scale == 1 else values.astype(np.float64) * scale

    return make


def notes(plan: Plan, facts: GraphFacts) -> Iterator[str]:
    """Yields what was changed between a graph and a plan, in words."""
    convs = facts.convs()
    layers = [layer for layer in plan.layers() if layer.kind == "conv"]
    normed = sum(layer.norm for layer in layers)
    here = sum(conv.norm is not None for conv in convs)
    if normed and here == 0:
        yield (
            "its norms are folded into the convolutions: the network has norms that only add the "
            "biases"
        )
    elif normed > here:
        yield f"norms folded into convolutions, which now only add the biases: {normed - here}"
    elif normed < here:
        yield f"norms that the dialect does not have, folded into convolutions: {here - normed}"
    moved = sum(conv.bias is not None and conv.norm is not None for conv in convs)
    if moved and not plan.dialect.bias_before_norm and normed >= here:
        yield f"biases before norms, now part of the running means: {moved}"
    if facts.head.softmax:
        yield "its Softmax is left off: the outputs are logits"
