"""Reads a residual network off the layer graph in a Keras file, whatever its layers are called.

A whole model stores its graph as JSON: `model_config` of an .h5 file. Layers with automatic names,
conv2d_4 and the like, say nothing about their place, so the place is read from the graph: the root
leads to the first addition, every addition ends a unit, and a pool and a dense layer follow the
last one. Only networks with the norm after the convolution (He et al. 2015) are read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from forebear.errors import TableError
from forebear.tables.dialects import KERAS2_V1, Dialect, Shortcut
from forebear.tables.preprocessing import CIFAR, Preprocessing
from forebear.tables.rows import Block, Conv, Form, Pool, Table
from forebear.text import truncated
from forebear.weights.choose_set import RenamedArrays
from forebear.weights.keras_layers import Layer, NoNetworkError, chain_to, layers_of
from forebear.weights.readers.base import Arrays

# What a configuration of another form raises.
_DAMAGE = (
    ArithmeticError,  # of an infinite stride
    AttributeError,
    LookupError,
    RecursionError,
    TableError,
    TypeError,
    ValueError,
)
_KINDS: tuple[Shortcut, ...] = ("change", "first", "widen", "always")


@dataclass(frozen=True, slots=True)
class _Step:
    """A convolution, with the norm after it."""

    conv: Layer
    norm: Layer | None
    relu: bool
    explicit: bool  # a layer pads before it

    @property
    def shape(self) -> tuple[int, int]:
        """Channels and kernel."""
        return self.conv.config["filters"], self.conv.one("kernel_size")

    @property
    def stride(self) -> int:
        """The stride of both axes."""
        return int(self.conv.one("strides", 1))


@dataclass(frozen=True, slots=True)
class _Unit:
    """The two branches that an addition joins."""

    steps: tuple[_Step, ...]
    shortcut: _Step | None

    @property
    def stride(self) -> int:
        """The stride of both branches."""
        return math.prod(step.stride for step in self.steps)


@dataclass(frozen=True, slots=True)
class Graph:
    """A network that a graph describes."""

    table: Table
    dialect: Dialect
    arrays: RenamedArrays  # under the names of Keras Applications
    preprocessing: Preprocessing


def graph_of(arrays: Arrays) -> Graph:
    """Returns the network that the configuration in a Keras file describes.

    Raises:
        NoNetworkError: The file has no configuration, or it is no network of forebear's.
    """
    try:
        layers = layers_of(arrays.model_config)
        root, units, last = _parts(layers)
        pool, step, side, rule = _root(root)
        blocks = [*_blocks(units)]
        form = _form(units)
        rows = tuple(row for row, _ in blocks)
        own = Conv("conv1", *step.shape, stride=step.stride)
        classes, dense = _head(last, side, own.stride, pool, rows)
        table = Table(
            f"resnet{2 + sum(len(unit.steps) for unit in units)}",
            (own, *pool),
            form,
            rows,
            classes=classes,
            image_size=side,
        )
        dialect = replace(_dialect(step, units, rows, own.channels), preprocessing=rule)
        renamed = _renamed(arrays, layers, step, dense, blocks)
    except _DAMAGE as error:
        raise NoNetworkError(f"it is no residual network ({truncated(error)})") from error
    return Graph(table, dialect, renamed, rule)


def _parts(layers: Mapping[str, Layer]) -> tuple[list[Layer], list[_Unit], list[Layer]]:
    """Returns the layers of the root, the units, and the layers after the last addition."""
    seen: set[str] = set()
    adds = [layer for layer in layers.values() if layer.kind == "Add"]
    after = {name: layer for layer in layers.values() for name in layer.inputs}
    if not adds or any(len(add.inputs) != 2 for add in adds):
        raise NoNetworkError("it has no additions of two branches")
    first, second = (chain_to(name, layers, set(), None) for name in adds[0].inputs)
    shared = [one for one, other in zip(first, second, strict=False) if one is other]
    root = chain_to(shared[-1].name, layers, seen, None)
    units, end = [], shared[-1].name
    for add in adds:
        branches = [chain_to(name, layers, seen, end) for name in add.inputs]
        short, long = sorted(branches, key=len)
        steps = _steps(short)
        if len(steps) > 1 or any(step.relu for step in steps):
            raise NoNetworkError(f"{add.name} adds no projection and no identity")
        units.append(_Unit(_steps(long), steps[0] if steps else None))
        if [step.relu for step in units[-1].steps] != [True] * (len(units[-1].steps) - 1) + [False]:
            raise NoNetworkError(f"{add.name} has activations at other places")
        relu = after[add.name]
        if not _is_relu(relu):
            raise NoNetworkError(f"{relu.name} after {add.name} is no ReLU")
        seen |= {add.name, relu.name}
        end = relu.name
    leaves = layers.keys() - {name for layer in layers.values() for name in layer.inputs}
    if len(leaves) != 1:
        raise NoNetworkError(f"it has {len(leaves)} outputs")
    last = chain_to(leaves.pop(), layers, seen, end)
    if layers.keys() - seen:
        raise NoNetworkError(f"{min(layers.keys() - seen)} has no place in a residual network")
    return root, units, last


def _is_relu(layer: Layer) -> bool:
    return layer.kind == "ReLU" or (
        layer.kind == "Activation" and layer.config.get("activation") == "relu"
    )


def _steps(chain: Sequence[Layer]) -> tuple[_Step, ...]:
    """Returns the convolutions of a chain, each with its padding, norm and ReLU."""
    found: list[_Step] = []
    padded = 0
    for layer in chain:
        if padded and layer.kind != "Conv2D":
            break
        if layer.kind == "ZeroPadding2D":
            padded = _padding(layer)
        elif layer.kind == "Conv2D":
            kernel, wanted = layer.one("kernel_size"), layer.config.get("padding")
            explicit = wanted == "valid" and kernel > 1
            fits = (
                wanted in ("same", "valid")
                and kernel % 2
                and padded == (kernel // 2 if explicit else 0)
            )
            plain = layer.one("dilation_rate", 1) == layer.config.get("groups", 1) == 1
            inside = layer.config.get("activation") or "linear"
            if not fits or not plain or inside not in ("linear", "relu"):
                raise NoNetworkError(f"{layer.name} has another padding, rate, group or activation")
            found.append(_Step(layer, None, inside == "relu", explicit))
            padded = 0
        elif (
            layer.kind == "BatchNormalization"
            and found
            and not found[-1].norm
            and not found[-1].relu
        ):
            found[-1] = replace(found[-1], norm=layer)
        elif _is_relu(layer) and found and not found[-1].relu:
            found[-1] = replace(found[-1], relu=True)
        elif layer.kind != "Dropout":
            raise NoNetworkError(f"{layer.name} ({truncated(layer.kind)}) is at a strange place")
    if padded:
        raise NoNetworkError("a padding is not before a convolution")
    return tuple(found)


def _padding(layer: Layer) -> int:
    sides = {one for pair in layer.config["padding"] for one in pair}
    if len(sides) != 1:
        raise NoNetworkError(f"{layer.name} pads the sides differently")
    return int(sides.pop())


def _root(
    chain: list[Layer],
) -> tuple[tuple[Pool, ...], _Step, int, Preprocessing]:
    """Returns the pool, the convolution, the side of the images and their preprocessing."""
    first, *rest = chain
    shape = first.config.get("batch_input_shape") or first.config["batch_shape"]
    side = shape[1] if shape[1] == shape[2] and isinstance(shape[1], int) else 224
    scale, offset = 1.0, 0.0
    if rest and rest[0].kind == "Rescaling":
        scale, offset = float(rest[0].one("scale")), float(rest[0].one("offset", 0))
        rest = rest[1:]
    pool: tuple[Pool, ...] = ()
    if rest and rest[-1].kind == "MaxPooling2D":
        last = rest.pop()
        if last.config.get("padding") != "same":
            raise NoNetworkError(f"{last.name} has padding={last.config.get('padding')!r}")
        pool = (Pool("pool1", last.one("pool_size"), last.one("strides")),)
    (step,) = _steps(rest)
    if not step.norm or not step.relu:
        raise NoNetworkError(f"{step.conv.name} has no norm and ReLU after it")
    rule = replace(
        CIFAR, size=side, side=side, scale=scale, mean=(0.0 - offset,) * 3, std=(1.0,) * 3
    )
    return pool, step, side, rule


def _form(units: Sequence[_Unit]) -> Form:
    kinds = {tuple(step.shape[1] for step in unit.steps) for unit in units}
    forms: dict[Any, Form] = {(3, 3): "basic", (1, 3, 1): "bottleneck"}
    if len(kinds) != 1 or next(iter(kinds)) not in forms:
        raise NoNetworkError(f"its units have kernels of {truncated(sorted(kinds))}")
    return forms[kinds.pop()]


def _blocks(units: Sequence[_Unit]) -> Iterator[tuple[Block, list[_Unit]]]:
    """Yields blocks: units of the same channels, of which only the first has a stride."""
    runs: list[list[_Unit]] = []
    for unit in units:
        shapes = [step.shape for step in unit.steps]
        if runs and unit.stride == 1 and shapes == [step.shape for step in runs[-1][0].steps]:
            runs[-1].append(unit)
        else:
            runs.append([unit])
    for number, run in enumerate(runs, start=1):
        steps = run[0].steps
        width, channels = steps[-2].shape[0], steps[-1].shape[0]
        yield Block(f"block{number}", len(run), width, channels, run[0].stride), run


def _dialect(first: _Step, units: Sequence[_Unit], rows: Sequence[Block], channels: int) -> Dialect:
    steps = [first, *(step for unit in units for step in unit.steps)]
    projections = [unit.shortcut for unit in units if unit.shortcut]
    if any(step.norm is None for step in steps):
        raise NoNetworkError("a convolution has no norm")
    norms = [step.norm for step in (*steps, *projections) if step.norm]
    normed = _same("projections with and without norms", [p.norm is not None for p in projections])
    before = [
        step.conv.config.get("use_bias", True) for step in (*steps, *projections) if step.norm
    ]
    strided = [s for s in steps if s.shape[1] > 1 and s.stride > 1]
    plain = [_biased(step) for step in projections if not step.norm]
    for unit in units:
        if unit.shortcut and (unit.shortcut.shape[1], unit.shortcut.stride) != (1, unit.stride):
            raise NoNetworkError(f"{unit.shortcut.conv.name} has another stride or kernel")
    place = {
        n for unit in units if unit.stride > 1 for n, s in enumerate(unit.steps) if s.stride > 1
    }
    if len(place) > 1 or place - {0, 1}:
        raise NoNetworkError("the stride is in different convolutions")
    return replace(
        KERAS2_V1,
        name="keras-graph",
        strided_conv="conv2" if place == {1} else "conv1",
        conv_padding="explicit" if _same("two paddings", [s.explicit for s in strided]) else "same",
        pool_padding="same",
        pool_fill="lowest",
        norm_eps=_same("several epsilons", [n.config["epsilon"] for n in norms]),
        norm_decay=_same("several momenta", [n.config["momentum"] for n in norms]),
        bias_before_norm=_same("biases in part of the convolutions", before),
        bias_without_norm=_same("biases in part of the projections", [*plain, True]),
        shortcut=_kind(units, rows, channels),
        shortcut_norm=True if normed is None else normed,
    )


def _biased(step: _Step) -> bool:
    return step.conv.config.get("use_bias", True) is True


def _same(what: str, values: Sequence[Any]) -> Any:
    """Returns the value that all have; None if there is none."""
    if any(value != values[0] for value in values):
        raise NoNetworkError(f"it has {what}")
    return values[0] if values else None


def _kind(units: Sequence[_Unit], rows: Sequence[Block], channels: int) -> Shortcut:
    """Returns the rule by which units have a projection."""
    found = [unit.shortcut is not None for unit in units]
    rules: dict[Shortcut, list[bool]] = {kind: [] for kind in _KINDS}
    for row in rows:
        for number in range(row.units):
            wider, strided = channels != row.channels, not number and row.stride > 1
            rules["change"].append(wider or strided)
            rules["first"].append(not number)
            rules["widen"].append(wider)
            rules["always"].append(True)
            channels = row.channels
    for kind, wanted in rules.items():
        if wanted == found:
            return kind
    raise NoNetworkError("its projections follow no rule")


def _head(
    chain: list[Layer], side: int, stride: int, pool: Sequence[Pool], rows: Sequence[Block]
) -> tuple[int, Layer]:
    """Returns the number of classes and the dense layer of a pool over the whole map."""
    for factor in (*(one.stride for one in pool), *(row.stride for row in rows)):
        stride *= factor
    kinds = [layer.kind for layer in chain if layer.kind not in ("Dropout", "Flatten")]
    if kinds == ["Dense", "Activation"] or (len(kinds) > 2 and kinds[2:] == ["Activation"]):
        kinds.pop()
    if kinds not in (["GlobalAveragePooling2D", "Dense"], ["AveragePooling2D", "Dense"]):
        raise NoNetworkError(f"its head is {truncated(', '.join(kinds))}")
    pooled, dense = (layer for layer in chain if layer.kind in kinds)
    if kinds[0] == "AveragePooling2D" and pooled.one("pool_size") != math.ceil(side / stride):
        raise NoNetworkError(f"{pooled.name} does not pool the whole map")
    if dense.config.get("use_bias", True) is not True:
        raise NoNetworkError(f"{dense.name} has no bias")
    return dense.config["units"], dense


def _renamed(
    arrays: Arrays,
    layers: Mapping[str, Layer],
    root: _Step,
    dense: Layer,
    blocks: Sequence[tuple[Block, list[_Unit]]],
) -> RenamedArrays:
    """Returns the arrays of the layers under the names of Keras Applications."""
    theirs = {dense.name: "predictions"}
    steps = {"conv1": root}
    for b, (_, units) in enumerate(blocks, start=2):
        for u, unit in enumerate(units, start=1):
            named = enumerate((unit.shortcut, *unit.steps))
            steps |= {f"conv{b}_block{u}_{n}": step for n, step in named if step is not None}
    for name, step in steps.items():
        theirs[step.conv.name] = f"{name}_conv"
        if step.norm is not None:
            theirs[step.norm.name] = f"{name}_bn"
    keys: dict[str, str] = {}
    for own in arrays:
        layer, _, weight = own.rpartition("/")
        if layer in theirs:
            keys[f"{theirs[layer]}/{weight}"] = own
        elif layer in layers:
            raise NoNetworkError(f"{layer} has weights and no place")
    return RenamedArrays(arrays, keys)
