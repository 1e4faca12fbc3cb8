"""TensorFlow 1's `resize_bilinear`, which no other library has any more.

The networks of TF-Slim were trained and measured with it: the sampling grid hangs on the top left
corner (align_corners=False, half_pixel_centers=False) and nothing is smoothed before shrinking.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def resize_bilinear(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float32]:
    """[height, width, C] in 0..255, from [H, W, C], by linear steps between four neighbours."""
    top, bottom, down = _neighbours(pixels.shape[0], height)
    left, right, across = _neighbours(pixels.shape[1], width)
    across = across[:, None]
    upper, lower = (
        _between(pixels[rows][:, left], pixels[rows][:, right], across) for rows in (top, bottom)
    )
    return upper + (lower - upper) * down[:, None, None]


def _neighbours(
    length: int, wanted: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """For each wanted position: the neighbours before and after it, and how far it is between."""
    # float32 throughout, as TensorFlow's kernel: float64 lands on other pixels now and then
    position = np.arange(wanted, dtype=np.float32) * (np.float32(length) / np.float32(wanted))
    floor = np.floor(position)
    before = floor.astype(np.intp)
    return before, np.minimum(before + 1, length - 1), position - floor


def _between(
    start: NDArray[np.uint8], end: NDArray[np.uint8], share: NDArray[np.float32]
) -> NDArray[np.float32]:
    first = start.astype(np.float32)
    return first + (end.astype(np.float32) - first) * share
