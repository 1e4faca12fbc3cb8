"""Whether two planned networks are one function in evaluation, as far as the plans can tell.

Pure. "The same weights" means: layers in the same place hold the same arrays, and each bias that a
norm follows, where only one of the two has it, is taken off that norm's running mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from forebear.network.describe.dialect_text import decimal
from forebear.network.plan.cost import arrays
from forebear.network.plan.plan import Layer, Plan, Unit


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the outputs agree on every image, and why."""

    answer: Literal["same", "different", "unknown"]
    reasons: tuple[str, ...]  # why not, or why it cannot be told; none for "same"
    notes: tuple[str, ...]  # what to heed although the function is the same


@dataclass(frozen=True, slots=True)
class _Facet:
    """One thing that must agree; `certain`: where it does not, the functions differ."""

    read: Callable[[Plan], object]
    reason: str
    certain: bool = True


def same_function(first: Plan, second: Plan) -> Verdict:
    """Compares what two plans compute in evaluation, for images of every size."""
    facets = (*_FACETS, *_norm_facets(first, second))
    broken = [facet for facet in facets if facet.read(first) != facet.read(second)]
    reasons = [facet.reason for facet in broken]
    epsilons = [plan.dialect.norm_eps for plan in (first, second)]
    normed = all(any(layer.norm for layer in plan.layers()) for plan in (first, second))
    if epsilons[0] != epsilons[1] and normed:
        reasons.append(f"epsilon is {decimal(epsilons[0])} and {decimal(epsilons[1])}")
    elif all(not facet.certain for facet in broken):
        if broken:
            return Verdict("unknown", tuple(reasons), ())
        return Verdict("same", (), tuple(_notes(first, second)))
    return Verdict("different", tuple(reasons), ())


def _notes(first: Plan, second: Plan) -> Iterator[str]:
    if _strides(first) != _strides(second):
        yield (
            "the strides sit elsewhere, which leaves out values that nobody reads: end points in "
            "between differ in size, and so do batch statistics in training"
        )
    if _foldable(first) != _foldable(second):
        yield "each bias before a norm has to be taken off that norm's running mean"


def _convs(plan: Plan) -> Iterator[Layer]:
    return (layer for layer in plan.layers() if layer.kind == "conv")


def _weights(plan: Plan) -> list[tuple[int, ...]]:
    """Shapes alone: blocks may be called differently."""
    return [
        shape
        for layer in plan.layers()
        for name, shape in arrays(layer).items()
        if name in ("conv.weight", "weight")
    ]


def _norms(plan: Plan) -> object:
    inside = [
        (unit.preact is not None, *(layer.norm for layer in (*unit.convs, unit.shortcut) if layer))
        for unit in plan.units()
    ]
    return [layer.norm for layer in (*plan.root, *plan.body)], inside, plan.postnorm is not None


def _foldable(plan: Plan) -> object:
    return [layer.bias and layer.norm for layer in _convs(plan)]


def _loose_biases(plan: Plan) -> object:
    return [layer.bias and not layer.norm for layer in _convs(plan)]


def _activated(plan: Plan) -> object:
    inside = [[layer.relu for layer in unit.convs] + [unit.relu] for unit in plan.units()]
    rows = [layer for layer in (*plan.root, *plan.body) if layer.kind in ("conv", "norm")]
    return [layer.activation != "none" for layer in rows], inside


def _activation(plan: Plan) -> object:
    return plan.table.activation


def _shortcuts(plan: Plan) -> object:
    return [
        None if unit.shortcut is None else (unit.shortcut.kind, unit.shortcut.zeros)
        for unit in plan.units()
    ]


def _rates(plan: Plan) -> object:
    return [layer.rate for layer in _convs(plan) if layer.kernel > 1]


def _paddings(plan: Plan) -> object:
    return [_padding(layer) for layer in _convs(plan)]


def _padding(layer: Layer) -> int | Literal["same"]:
    """The padding, a SAME that is the same on both sides of every map in pixels."""
    alike = layer.kernel == 1 or (layer.kernel % 2 == 1 and layer.step == 1)
    return layer.kernel // 2 if layer.padding == "same" and alike else layer.padding


def _pools(plan: Plan) -> object:
    """Kernel, stride, place and border of each pool.

    After a ReLU no value is below zero, so that zeros beyond the border never are the maximum.
    """
    found, positive = [], False
    for layer in (*plan.root, *plan.body):
        if layer.kind in ("conv", "norm"):
            positive = layer.relu
        if layer.kind != "pool":
            continue
        padding = _padding(layer)
        seen = "lowest" if positive or padding == 0 else layer.fill
        found.append((layer.kernel, layer.stride, layer.rate, padding, seen))
    return found


def _averages(plan: Plan) -> object:
    return [layer.side for layer in plan.body if layer.kind == "average"]


def _strides(plan: Plan) -> object:
    return [layer.stride for unit in plan.units() for layer in unit.convs]


def _sampling(plan: Plan) -> object:
    """Where values are left out, once every stride is moved as far down as it can be.

    A stride moves past what works on each place by itself: 1x1 convolutions, norms, ReLUs and
    additions. So a stride on the first 1x1 of a unit is one on what comes in; and a stride on a
    3x3 that only 1x1 follow is one on what the unit gives out, padding being alike on both sides.
    TF-Slim's place, the last unit's 3x3, and Caffe's, the next unit's first 1x1, become the same.
    """
    chain: list[object] = [
        (layer.kind, layer.stride)
        for layer in (*plan.root, *plan.body)
        if layer.kind in ("conv", "pool")
    ]
    waiting = 1
    for unit in plan.units():
        before, inside, after = _split(unit)
        waiting *= before
        if any(layer.kernel > 1 for layer in unit.convs):
            chain += [("subsample", waiting)] if waiting > 1 else []
            waiting = 1
        chain.append(("unit", inside))
        waiting *= after
    return [*chain, ("subsample", waiting)] if waiting > 1 else chain


def _split(unit: Unit) -> tuple[int, tuple[int, ...], int]:
    """The unit's stride as one before it, those that cannot leave it, and one after it."""
    strides = tuple(layer.stride for layer in unit.convs)
    strided = [at for at, stride in enumerate(strides) if stride > 1]
    if len(strided) != 1:
        return 1, strides, 1
    (at,) = strided
    none = (1,) * len(strides)
    if all(layer.kernel == 1 for layer in unit.convs[: at + 1]):
        return strides[at], none, 1
    later = unit.convs[at + 1 :]
    if _padding(unit.convs[at]) != "same" and all(layer.kernel == 1 for layer in later):
        return 1, none, strides[at]
    return 1, strides, 1


_FACETS = (
    _Facet(_weights, "their weights have other shapes, so that they do not fit each other"),
    _Facet(_sampling, "their strides sit where they leave out other values"),
    _Facet(_paddings, "their convolutions pad differently"),
    _Facet(_rates, "their rates differ"),
    _Facet(_pools, "their pool's windows or border differ"),
    _Facet(_shortcuts, "their shortcuts differ"),
    _Facet(_loose_biases, "only one has biases at some places that no norm follows"),
    _Facet(_activation, "their activations differ"),
    _Facet(_averages, "their averages to a fixed size differ", certain=False),
)


def _norm_facets(first: Plan, second: Plan) -> tuple[_Facet, ...]:
    """Norms and activations: at other places, in the root or the unit after it, they may agree."""
    dialects = (first.dialect, second.dialect)
    certain = len({(dialect.order, dialect.final_norm) for dialect in dialects}) > 1
    return (
        _Facet(_norms, "their norms stand at other places", certain),
        _Facet(_activated, "their activations stand at other places", certain),
    )
