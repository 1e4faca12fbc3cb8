"""The contents of a drawing of a planned network: its stages, with labels and map sizes.

Nothing here imports matplotlib. A block of more than six units shows the first two units, a box
with the number of units that are not shown, and the last unit. `drawing.py` places and draws the
stages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from forebear.network.describe.describe import Report
from forebear.network.plan.plan import ACTIVATIONS, Layer, Unit

Arc = Literal["none", "identity", "projection"]
# other: a layer without a colour of its own, such as those of the root and the pools
Kind = Literal["image", "layer", "other", "block", "head"]

FEW = 6  # the maximum number of units for which a block shows all of them


@dataclass(frozen=True, slots=True)
class Box:
    """The output of one layer or unit, or of `count` units that share one box."""

    path: str
    side: int  # pixels
    channels: int
    coarser: int = 1  # the stride of the layer or unit
    rate: int = 1
    arc: Arc = "none"
    count: int = 1


@dataclass(frozen=True, slots=True)
class Stage:
    """The boxes above one label: the image, a layer outside the blocks, or a block."""

    name: str
    kind: Kind
    lines: tuple[str, ...]  # of the label, below the name
    boxes: tuple[Box, ...]


def stages(report: Report) -> list[Stage]:
    """Returns the stages from the image to the logits. Dropout layers are omitted."""
    plan, size = report.plan, report.image_size
    shapes = {row.path: row.shape for row in report.measures}
    image = Box("image", size, plan.in_channels)
    chain = [Stage("image", "image", (f"{plan.in_channels}x{size}x{size}",), (image,))]
    for layer in (*plan.root, *plan.body):
        if layer.kind != "dropout":
            kind: Kind = "layer" if layer.kind == "conv" else "other"
            chain.append(_layer(layer, shapes[layer.path], "other" if plan.blocks else kind))
    for name, units in plan.blocks:
        groups = max(layer.groups for layer in units[0].convs)
        lines = [f"{len(units)} x {_form(units[0], plan.table.form)}"]
        lines += [f"{units[0].convs[0].channels} wide, C={groups}"] if groups > 1 else []
        lines.append("x".join(map(str, shapes[units[-1].path])))
        chain.append(Stage(name, "block", tuple(lines), _boxes(units, shapes)))
    for layer in plan.head():
        kind = "other" if layer.kind == "norm" else "head"
        chain.append(_layer(layer, shapes[layer.path], kind))
    return chain


def _layer(layer: Layer, shape: tuple[int, int, int], kind: Kind) -> Stage:
    rate = layer.rate if layer.kernel > 1 else 1
    box = Box(layer.path, shape[1], layer.channels, coarser=layer.stride, rate=rate)
    what = {
        "conv": f"{layer.kernel}x{layer.kernel} conv",
        "pool": f"{layer.kernel}x{layer.kernel} max",
        "norm": f"norm, {ACTIVATIONS[layer.activation]}",
        "average": "average",
        "mean": "average",
        "logits": "linear",
    }[layer.kind]
    given = "x".join(map(str, shape if max(shape[1:]) > 1 else shape[:1]))
    return Stage(layer.name, kind, (what, given), (box,))


def _form(unit: Unit, form: str) -> str:
    named = {"basic": (3, 3), "bottleneck": (1, 3, 1)}[form]
    kernels = tuple(layer.kernel for layer in unit.convs)
    return form if kernels == named else "-".join(f"{k}x{k}" for k in kernels)


def _boxes(units: Sequence[Unit], shapes: Mapping[str, tuple[int, int, int]]) -> tuple[Box, ...]:
    boxes = [_box(unit, shapes[unit.path][1]) for unit in units]
    if len(boxes) <= FEW:
        return tuple(boxes)
    third, hidden = boxes[2], len(boxes) - 3
    more = Box(third.path, third.side, third.channels, 1, third.rate, third.arc, hidden)
    return (boxes[0], boxes[1], more, boxes[-1])


def _box(unit: Unit, side: int) -> Box:
    arc: Arc = "none"
    if unit.shortcut is not None:
        arc = "projection" if unit.shortcut.kind == "conv" else "identity"
    rate = max((layer.rate for layer in unit.convs if layer.kernel > 1), default=1)
    return Box(unit.path, side, unit.channels, unit.stride, rate, arc)
