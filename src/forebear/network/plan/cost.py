"""Shapes, parameter counts, multiply-adds and receptive fields of a planned network.

Everything is computed from the plan, without torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from forebear.errors import TableError
from forebear.limits import INPUT_SIDE, MAP_GROWTH, MAP_VALUES, PARAMETERS
from forebear.network.plan.plan import Layer, Plan, Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """Shape, counts and receptive field of one layer or unit, for one input size."""

    path: str
    kind: str
    shape: tuple[int, int, int]  # of the output: channels, height, width
    trainable: int  # number of trainable values
    moving: int  # number of values in the running means and variances
    multiply_adds: int  # for one image, convolutions and logits only
    stride: int  # input pixels between two neighbours in the output
    rate: int  # dilation; of a unit, the largest of its convolutions
    receptive_field: int | None  # input pixels along one side; None: the whole image


def arrays(layer: Layer) -> dict[str, tuple[int, ...]]:
    """Returns {name: shape} of a layer's arrays, with the names in its module's state_dict."""
    shapes: dict[str, tuple[int, ...]] = {}
    if layer.kind == "conv":
        each = layer.in_channels // layer.groups
        shapes["conv.weight"] = (layer.channels, each, layer.kernel, layer.kernel)
        if layer.bias:
            shapes["conv.bias"] = (layer.channels,)
    if layer.kind == "logits":
        shapes["weight"] = (layer.channels, layer.in_channels)
        shapes["bias"] = (layer.channels,)
    if layer.norm:
        for name in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"norm.{name}"] = (layer.channels,)
    return shapes


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for side in shape:
        count *= side
    return count


def parameters(plan: Plan) -> tuple[int, int]:
    """Returns the number of trainable values, and the number of all values.

    The second one includes the running means and variances.
    """
    trainable = total = 0
    for layer in plan.layers():
        for name, shape in arrays(layer).items():
            total += _count(shape)
            trainable += 0 if "running" in name else _count(shape)
    return trainable, total


def check_parameters(plan: Plan) -> None:
    """Checks that a network does not have too many values.

    Raises:
        TableError: It has more than `forebear.limits.PARAMETERS`.
    """
    total = parameters(plan)[1]
    if total > PARAMETERS:
        raise TableError(
            f"{plan.table.name}: the network has {total:,} values. Expected at most "
            f"{PARAMETERS:,}. Correct the table, or pass a smaller num_classes."
        )


@dataclass(frozen=True, slots=True)
class _View:
    """The size of a feature map, with the stride and the receptive field of its values."""

    height: int
    width: int
    stride: int = 1
    field: int | None = 1

    def through(self, layer: Layer) -> _View:
        height, width = layer.out_side(self.height), layer.out_side(self.width)
        if layer.kind in ("mean", "average"):
            return _View(height, width, self.stride, None)
        field = self.field
        if field is not None:
            field += layer.rate * (layer.kernel - 1) * self.stride
        return _View(height, width, self.stride * layer.stride, field)


def measure(plan: Plan, height: int, width: int | None = None) -> list[Measure]:
    """Returns the measures of every layer and unit, in execution order.

    Raises:
        ValueError: The image is too small. The message gives the minimum size.
    """
    width = height if width is None else width
    check_size(plan, height, width)
    view, rows = _View(height, width), []
    for layer in (*plan.root, *plan.body):
        view, row = _step(view, layer)
        rows.append(row)
    for unit in plan.units():
        view, unit_rows = _unit(view, unit)
        rows.extend(unit_rows)
    for layer in plan.head():
        view, row = _step(view, layer)
        rows.append(row)
    return rows


def _step(view: _View, layer: Layer) -> tuple[_View, Measure]:
    after = view.through(layer)
    sizes = {name: _count(shape) for name, shape in arrays(layer).items()}
    moving = sum(size for name, size in sizes.items() if "running" in name)
    weights = sizes.get("conv.weight", sizes.get("weight", 0))
    row = Measure(
        path=layer.path,
        kind=layer.kind,
        shape=(layer.channels, after.height, after.width),
        trainable=sum(sizes.values()) - moving,
        moving=moving,
        multiply_adds=weights * after.height * after.width,
        stride=after.stride,
        rate=layer.rate if layer.kernel > 1 else 1,  # dilation has no effect on a 1x1 kernel
        receptive_field=after.field,
    )
    return after, row


def _unit(view: _View, unit: Unit) -> tuple[_View, list[Measure]]:
    rows, inside = [], view
    for layer in (unit.preact, unit.shortcut):
        if layer is not None:
            rows.append(_step(view, layer)[1])
    for layer in unit.convs:
        inside, row = _step(inside, layer)
        rows.append(row)
    total = Measure(
        path=unit.path,
        kind="unit",
        shape=(unit.channels, inside.height, inside.width),
        trainable=sum(row.trainable for row in rows),
        moving=sum(row.moving for row in rows),
        multiply_adds=sum(row.multiply_adds for row in rows),
        stride=inside.stride,
        rate=max(row.rate for row in rows),
        receptive_field=inside.field,
    )
    return inside, [*rows, total]


def smallest_side(plan: Plan) -> int:
    """Returns the smallest input side in pixels for which no feature map is empty.

    Raises:
        TableError: The network needs larger images than forebear supports, or no size fits.
    """
    path = [*plan.root, *plan.body, *(layer for unit in plan.units() for layer in unit.convs)]
    side = 1
    for layer in reversed(path):
        needed = layer.in_side(side)
        if needed is None or needed > INPUT_SIDE:
            what = "no input" if needed is None else f"no input of {INPUT_SIDE:,} pixels or fewer"
            raise TableError(
                f"row {layer.path}: {what} is large enough for the layers from here on. Expected "
                "smaller kernels, strides and rates, or more padding. Correct the table, or pass a "
                "larger output_stride."
            )
        side = needed
    return side


def check_map(plan: Plan, height: int, width: int | None = None) -> None:
    """Checks that no feature map of an image is too large for the size of the network.

    A small file must not ask for an input size that fills the memory.

    Raises:
        ValueError: A map has more values than `forebear.limits` allow. The message names the layer.
    """
    width = height if width is None else width
    if min(height, width) < smallest_side(plan):
        return  # the network refuses such images
    most = MAP_VALUES + MAP_GROWTH * parameters(plan)[1]
    sizes = {"the input": plan.in_channels * height * width}
    sizes |= {row.path: _count(row.shape) for row in measure(plan, height, width)}
    path = max(sizes, key=sizes.__getitem__)
    if sizes[path] > most:
        size = f"{height}" if height == width else f"{height}x{width}"
        raise ValueError(
            f"size={size}: an image of {height}x{width} pixels makes {sizes[path]:,} values at "
            f"{path}. Expected at most {most:,} for {plan.table.name}. Use a smaller size."
        )


def check_size(plan: Plan, height: int, width: int) -> None:
    """Checks that an image is large enough.

    Raises:
        ValueError: A feature map would be empty. The message gives the minimum size.
    """
    side = smallest_side(plan)
    if min(height, width) < side:
        raise ValueError(
            f"image of {height}x{width} pixels: this is too small for {plan.table.name}, which "
            f"needs at least {side}x{side} pixels. Pass larger images."
        )
