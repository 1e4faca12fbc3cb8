"""Reads what a graph does to its input before the first convolution, as a preprocessing.

A subtraction, a scale and the order of the channels are part of the preprocessing, not of the
network: MXNet's version 2 networks begin with a norm of the image, forebear's graphs with pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from forebear.limits import CHANNELS
from forebear.tables.preprocessing import Preprocessing
from forebear.weights.graphs.facts import StrangerError
from forebear.weights.graphs.layers import read_norm
from forebear.weights.graphs.links import Links, stranger
from forebear.weights.readers.onnx.records import Node

_PIXELS = 2  # TensorProto.UINT8: such an input is pixels from 0 to 255
_ARITHMETIC = ("Add", "Sub", "Mul", "Div", "BatchNormalization")
_FIRST = (2, 1, 0)
_EXPECTED = "a scale above 0 and a shift of each channel"


@dataclass(frozen=True, slots=True)
class Image:
    """The input after all that is done to it: y = scale * x + shift, for each channel."""

    name: str  # of the tensor that the first convolution takes
    channels: int
    side: int | None  # in pixels; None if it is not square, or any
    scale: NDArray[np.float64]
    shift: NDArray[np.float64]
    reversed: bool  # whether the order of the channels is reversed
    pixels: bool  # whether the input is pixels from 0 to 255
    changed: bool  # whether the graph does anything to its input


def read_image(links: Links) -> Image:
    """Returns the input of a graph.

    Raises:
        StrangerError: The graph has several inputs, or does something else to its input.
    """
    given = links.graph.inputs
    if len(given) != 1:
        names = ", ".join(repr(value.name[:50]) for value in given[:4])
        raise StrangerError(f"the graph has {len(given)} inputs ({names})", "one input, images")
    dims, x = list(given[0].dims), given[0].name
    channels_last, reverse, changed = False, False, False
    steps: list[Node] = []
    while True:
        nodes = links.takers(x)
        node = nodes[0] if len(nodes) == 1 else None
        if node is None or not _is_input_step(links, node):
            break
        if node.op == "Transpose":
            if node.numbers("perm", ()) != (0, 3, 1, 2) or channels_last:
                raise stranger(node, "a Transpose from channels last")
            channels_last = True
        elif node.op == "Gather":
            order = links.numbers(node, "", 1)
            if order != _FIRST or node.number("axis", 0) not in (1, 1 if channels_last else 3):
                raise stranger(node, "a Gather that reverses three channels")
            reverse = not reverse
        if node.op not in ("Cast", "Transpose"):
            steps.append(node)
        changed, x = changed or node.op != "Cast", links.use(node)
    dims = [dims[0], dims[3], dims[1], dims[2]] if channels_last and len(dims) == 4 else dims
    channels, side = _shape(links, x, dims)
    scale, shift = np.ones(channels), np.zeros(channels)
    for node in steps:
        if node.op == "Gather":
            scale, shift = scale[::-1], shift[::-1]
            continue
        by, plus = _affine(links, node, channels)
        scale, shift = scale * by, shift * by + plus
    if not (np.isfinite(scale).all() and np.isfinite(shift).all() and (scale > 0).all()):
        raise StrangerError("the graph scales its input by numbers that are not above 0", _EXPECTED)
    own = links.graph.producer.startswith("forebear") and changed
    pixels = given[0].kind == _PIXELS or own
    return Image(x, channels, side, scale, shift, reverse, pixels, changed or pixels)


def _is_input_step(links: Links, node: Node) -> bool:
    if node.op in ("Cast", "Transpose", "Gather", "BatchNormalization"):
        return True
    places = [place for place in range(2) if links.constant(node, place) is not None]
    return node.op in _ARITHMETIC and len(places) == 1


def _shape(links: Links, x: str, dims: list[int]) -> tuple[int, int | None]:
    """Returns the number of channels, which the first convolution decides, and the side."""
    for node in links.takers(x):
        kernel = links.constant(node, 1)
        if node.op == "Conv" and kernel is not None and len(kernel.shape) == 4:
            dims = dims if len(dims) == 4 else [0] * 4
            inside = kernel.shape[1] * max(1, int(node.number("group", 1)))
            if not 0 < inside <= CHANNELS:
                raise StrangerError(f"node {node.shown} takes {inside} channels", "fewer channels")
            return inside, dims[2] if dims[2] == dims[3] and dims[2] > 0 else None
        if node.op == "Pad":
            return _shape(links, node.output, dims)
        raise stranger(node, "a Conv that takes the image")
    raise StrangerError("nothing takes the input of the graph", "a Conv that takes the image")


def _affine(
    links: Links, node: Node, channels: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the factor and the summand of a node, for each channel."""
    if node.op == "BatchNormalization":
        norm = read_norm(links, node)
        if norm.channels != channels:
            raise StrangerError(f"norm {node.shown} has {norm.channels} values", f"{channels}")
        gamma, beta, mean, variance = (
            links.values(name).astype(np.float64)
            for name in (norm.weight, norm.bias, norm.mean, norm.variance)
        )
        with np.errstate(all="ignore"):
            by = gamma / np.sqrt(variance + norm.epsilon)
        return by, beta - mean * by
    place = 0 if links.constant(node, 0) is not None else 1
    values = _per_channel(links, node, place, channels)
    one, none = np.ones(channels), np.zeros(channels)
    if node.op == "Add":
        return one, values
    if node.op == "Mul":
        return values, none
    if node.op == "Sub":
        return (one, -values) if place == 1 else (-one, values)
    if place == 0:
        raise stranger(node, _EXPECTED)
    with np.errstate(all="ignore"):
        return one / values, none


def _per_channel(links: Links, node: Node, place: int, channels: int) -> NDArray[np.float64]:
    """Returns a constant as one value for each channel, if it is that."""
    found = links.constant(node, place)
    shape = () if found is None else found.shape
    longest = [side for side in shape if side != 1]
    if found is None or len(shape) > 4 or longest not in ([], [channels]):
        raise stranger(node, _EXPECTED)
    values = links.values(links.name(node.inputs[place])).astype(np.float64).reshape(-1)
    if longest:  # the axis of the channels, first or last
        place = len(shape) - shape.index(channels)
        if place not in (1, 3):
            raise stranger(node, _EXPECTED)
    return np.broadcast_to(values, (channels,))


def preprocessing_of(image: Image, base: Preprocessing) -> Preprocessing | None:
    """Returns a preprocessing with what the graph does to its input; None if it does nothing.

    Args:
        image: The input of the graph.
        base: What comes before the graph. Of its numbers, only those of its geometry are kept if
            the input is pixels.

    Raises:
        StrangerError: The result cannot be expressed.
    """
    if not image.changed or len(base.mean) != image.channels:
        if image.changed:
            raise StrangerError(
                f"the graph scales an input of {image.channels} channels",
                f"{len(base.mean)} channels",
            )
        return None
    order = base.order
    if image.pixels:
        if order in ("RGB", "BGR"):
            order = "BGR" if image.reversed else "RGB"
        none, one = (0.0,) * image.channels, (1.0,) * image.channels
        base = replace(base, order=order, scale=1.0, mean=none, std=one)
    elif image.reversed:
        base = replace(
            base,
            order="RGB" if order == "BGR" else "BGR",
            mean=base.mean[::-1],
            std=base.std[::-1],
        )
    # scale * (x - mean) / std + shift = (x - (mean - shift * std / scale)) / (std / scale)
    std = np.array(base.std) / image.scale
    mean = np.array(base.mean) - image.shift * std
    try:
        return replace(base, mean=_plain(mean), std=_plain(std))
    except ValueError as error:
        raise StrangerError(f"the graph scales its input: {error}", _EXPECTED) from error


def _plain(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
