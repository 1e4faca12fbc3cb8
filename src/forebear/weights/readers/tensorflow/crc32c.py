"""The checksum of TensorFlow's files: CRC-32C, masked so that a checksum of checksums is sound."""

from __future__ import annotations

import google_crc32c
import numpy as np
from numpy.typing import NDArray


def crc32c(data: NDArray[np.uint8], before: int = 0) -> int:
    """The CRC-32C of what `before` stands for, followed by `data`; contiguous bytes."""
    # An array is taken as it is; a memoryview would have to be copied into bytes first.
    crc: int = google_crc32c.extend(before, data)
    return crc


def masked(crc: int) -> int:
    """As it stands in a file (LevelDB's format: rotated by 15 bits, plus 0xa282ead8)."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
