"""Decides from two plans whether the networks compute the same function in evaluation mode.

Both are given the same weights: corresponding layers have the same arrays. If only one network has
a bias before a norm, the other network's running mean is smaller by that bias. Nothing here imports
torch.
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
    """Whether the outputs are equal for every image, and why."""

    answer: Literal["same", "different", "unknown"]
    reasons: tuple[str, ...]  # for "different" or "unknown"; empty for "same"
    notes: tuple[str, ...]  # differences that do not affect the function; only for "same"


@dataclass(frozen=True, slots=True)
class _Facet:
    """A property that must be equal. If `certain`, a difference implies different functions."""

    read: Callable[[Plan], object]
    reason: str
    certain: bool = True


def same_function(first: Plan, second: Plan) -> Verdict:
    """Compares the functions of two planned networks in evaluation mode, for all image sizes."""
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
            "the strides are in different layers, which only skips values that are never used: "
            "intermediate end points differ in size, and so do batch statistics in training"
        )
    if _foldable(first) != _foldable(second):
        yield "each bias before a norm must be subtracted from the running mean of that norm"


def _convs(plan: Plan) -> Iterator[Layer]:
    return (layer for layer in plan.layers() if layer.kind == "conv")


def _weights(plan: Plan) -> list[tuple[int, ...]]:
    """Returns the shapes of the weights. Names are not compared: blocks may have other names."""
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
    """Returns the padding; a SAME that is always equal on both sides becomes a pixel count."""
    alike = layer.kernel == 1 or (layer.kernel % 2 == 1 and layer.step == 1)
    return layer.kernel // 2 if layer.padding == "same" and alike else layer.padding


def _pools(plan: Plan) -> object:
    """Returns kernel, stride, rate, padding and padding value of each pool.

    After a ReLU no value is negative, so padding with zeros does not change a maximum.
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
    """Returns where the network subsamples, in a form that does not depend on the dialect.

    A stride commutes with operations on single positions: 1x1 convolutions, norms, ReLUs and
    additions. A stride in the first 1x1 of a unit therefore equals subsampling the unit's input. A
    stride in a 3x3 with only 1x1 after it equals subsampling the unit's output, if the padding is
    equal on both sides. Each such stride is moved out of its unit. TF-Slim's stride, in the 3x3 of
    a block's last unit, and Caffe's, in the first 1x1 of the next unit, then become the same.
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
    """Returns the stride before the unit, the strides that stay inside it, and the one after it."""
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
    _Facet(_weights, "their weights have different shapes"),
    _Facet(_sampling, "they subsample at different positions"),
    _Facet(_paddings, "the padding of their convolutions differs"),
    _Facet(_rates, "their dilation rates differ"),
    _Facet(_pools, "the windows or the padding of their pools differ"),
    _Facet(_shortcuts, "their shortcuts differ"),
    _Facet(_loose_biases, "only one has biases in some convolutions without a norm"),
    _Facet(_activation, "their activation functions differ"),
    _Facet(_averages, "their adaptive average pools differ", certain=False),
)


def _norm_facets(first: Plan, second: Plan) -> tuple[_Facet, ...]:
    """Returns the facets of the norms and the activations.

    In two networks of the same version these can be in different layers, of the root or of the
    first unit, and the function can still be the same. Such a difference is not certain.
    """
    dialects = (first.dialect, second.dialect)
    certain = len({(dialect.order, dialect.final_norm) for dialect in dialects}) > 1
    return (
        _Facet(_norms, "their norms are in different layers", certain),
        _Facet(_activated, "their activations are in different layers", certain),
    )
