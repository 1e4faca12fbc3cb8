"""How an array lies in a file, and the way to torch's layout and back: numpy alone.

Each layout turns the home's array into torch's; `shape` gives the home's shape for torch's.
Letters are axes: O out, I in, H and W of the kernel, M of a depthwise kernel's multiplier, C one
value a channel; torch's are OIHW, OI and C.
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
    """A name for the axes, and both directions."""

    axes: str  # "": torch's, which the number of axes tells
    load: Callable[[Array, Shape], Array]  # theirs, torch's shape -> torch's
    store: Callable[[Array], Array]  # torch's -> theirs

    def shape(self, ours: Shape) -> Shape:
        """The home's shape of an array that torch holds as `ours`."""
        empty = np.broadcast_to(np.zeros((), np.bool_), ours)
        return self.store(empty).shape


def _grouped_from_depthwise(array: Array, ours: Shape) -> Array:
    # keras-applications resnet_common.py, block3: depthwise output (g*c + i)*c + m feeds grouped
    # output g*c + m, so W[g*c + m, i, h, w] = D[h, w, g*c + i, m].
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
