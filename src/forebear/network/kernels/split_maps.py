"""3x3 convolutions of a rate above 1, by Winograd's algorithm on parts of the map.

With a rate of r, an output value sees every r-th row and column only. The r * r maps of such rows
and columns are therefore independent, and each has a convolution of rate 1.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from forebear.network.kernels import winograd
from forebear.network.kernels.conv_geometry import Window


def fits(window: Window, x: Tensor, weight: Tensor) -> bool:
    """Whether `Split` supports this convolution. It may be slower than torch's own."""
    return (
        x.dtype == torch.float32
        and window.stride == 1
        and winograd.fits(_part(window, *x.shape[2:])[0], x, weight)
    )


class Split:
    """A convolution for which `fits` is true, with the arguments of `convolution.convolve`."""

    @staticmethod
    def apply(x: Tensor, weight: Tensor, window: Window) -> Tensor:
        """Returns [N, channels, window.height, window.width] in channels_last."""
        part, around = _part(window, *x.shape[2:])
        maps = _split(F.pad(x, around), window.rate)
        y: Tensor = winograd.Winograd.apply(maps, weight, part)  # type: ignore[no-untyped-call]
        y = _joined(y, window.rate)[:, :, : window.height, : window.width]
        return y.contiguous(memory_format=torch.channels_last)


def _part(window: Window, height: int, width: int) -> tuple[Window, tuple[int, int, int, int]]:
    """Returns the convolution of each part, and the zeros around the map, in F.pad's order.

    The zeros make the sides multiples of the rate. The padding of the convolution is among them,
    unless it is a multiple of the rate: then it is the padding of each part.

    Args:
        window: The convolution of the map.
        height: Of the map.
        width: Of the map.
    """
    rate, top, left = window.rate, window.top, window.left
    part = replace(
        window,
        rate=1,
        top=top // rate,
        left=left // rate,
        height=-(-window.height // rate),
        width=-(-window.width // rate),
    )
    if top % rate == left % rate == 0:
        return part, (0, -width % rate, 0, -height % rate)
    right, below = left + -(width + 2 * left) % rate, top + -(height + 2 * top) % rate
    return replace(part, top=0, left=0), (left, right, top, below)


def _split(x: Tensor, rate: int) -> Tensor:
    """Returns the parts of each map: [N, C, H, W] -> [N * rate * rate, C, H / rate, W / rate]."""
    count, channels, height, width = x.shape
    rows = x.permute(0, 2, 3, 1)
    rows = rows.reshape(count, height // rate, rate, width // rate, rate, channels)
    parts = rows.permute(0, 2, 4, 1, 3, 5)
    return parts.reshape(-1, height // rate, width // rate, channels).permute(0, 3, 1, 2)


def _joined(parts: Tensor, rate: int) -> Tensor:
    """Inverts `_split`."""
    _, channels, height, width = parts.shape
    rows = parts.permute(0, 2, 3, 1).reshape(-1, rate, rate, height, width, channels)
    maps = rows.permute(0, 3, 1, 4, 2, 5)
    return maps.reshape(-1, height * rate, width * rate, channels).permute(0, 3, 1, 2)
