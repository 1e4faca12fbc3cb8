"""Memory layouts of arrays in checkpoints, and their conversion to and from torch's layout.

`load` converts an array of the original library to torch's layout. `store` converts it back.
`shape` returns the original library's shape for torch's shape. Each letter is an axis: O output
channels, I input channels, H and W the kernel, M the multiplier of a depthwise kernel, C channels.
torch's layouts are OIHW, OI and C. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """One layout: its axes, and the conversion in both directions."""

    axes: str  # "": torch's layout for this number of axes
    load: Callable[[Array, Shape], Array]  # (original array, torch's shape) -> torch's array
    store: Callable[[Array], Array]  # torch's array -> original array

    def shape(self, ours: Shape) -> Shape:
        """Returns the shape in this layout of an array whose shape in torch is `ours`."""
        empty = np.broadcast_to(np.zeros((), np.bool_), ours)
        return self.store(empty).shape


def _grouped_from_depthwise(array: Array, ours: Shape) -> Array:
    # keras-applications resnet_common.py, block3: depthwise output (g*c + i)*c + m is added to
    # grouped output g*c + m, so W[g*c + m, i, h, w] = D[h, w, g*c + i, m].
    out, each, height, width = ours
    return (
        array.reshape(height, width, out // each, each, each).transpose(2, 4, 3, 0, 1).reshape(ours)
    )


def _depthwise_from_grouped(array: Array) -> Array:
    out, each, height, width = array.shape
    return (
        array.reshape(out // each, each, each, height, width)
        .transpose(3, 4, 0, 2, 1)
        .reshape(height, width, out, each)
    )


def _as_they_are(array: Array, ours: Shape) -> Array:
    return array.reshape(ours)


SAME = Layout("", _as_they_are, lambda array: array)
HWIO = Layout("HWIO", lambda a, _: a.transpose(3, 2, 0, 1), lambda a: a.transpose(2, 3, 1, 0))
IO = Layout("IO", lambda a, _: a.T, lambda a: a.T)
HWIO_LINEAR = Layout("HWIO", lambda a, _: a[0, 0].T, lambda a: a.T[None, None])
OIHW_LINEAR = Layout("OIHW", _as_they_are, lambda a: a[:, :, None, None])
FLAT = Layout("O(IHW)", _as_they_are, lambda a: a.reshape(a.shape[0], -1))
DEPTHWISE = Layout("depthwise HWIM", _grouped_from_depthwise, _depthwise_from_grouped)
