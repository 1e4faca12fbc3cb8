"""TensorFlow 1's `resize_bilinear`, which current libraries no longer offer.

The networks of TF-Slim were trained and evaluated with it. The sampling grid is aligned with the
top left corner (align_corners=False, half_pixel_centers=False), and there is no antialiasing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def resize_bilinear(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float32]:
    """Resizes [H, W, C] to [height, width, C] in 0..255, bilinearly from four neighbours."""
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
    """Returns the two neighbours of each output position, and the weight of the second."""
    # float32 throughout, as in TensorFlow's kernel: float64 sometimes selects other pixels
    position = np.arange(wanted, dtype=np.float32) * (np.float32(length) / np.float32(wanted))
    floor = np.floor(position)
    before = floor.astype(np.intp)
    return before, np.minimum(before + 1, length - 1), position - floor


def _between(
    start: NDArray[np.uint8], end: NDArray[np.uint8], weight: NDArray[np.float32]
) -> NDArray[np.float32]:
    first = start.astype(np.float32)
    return first + (end.astype(np.float32) - first) * weight
