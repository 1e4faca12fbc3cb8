"""The checksum of TensorFlow's files: CRC-32C, masked because the data may contain checksums."""

from __future__ import annotations

import google_crc32c
import numpy as np
from numpy.typing import NDArray


def crc32c(data: NDArray[np.uint8], before: int = 0) -> int:
    """Returns the CRC-32C of contiguous bytes that follow data with the CRC-32C `before`."""
    # An array needs no copy; a memoryview would have to be copied to bytes first.
    crc: int = google_crc32c.extend(before, data)
    return crc


def masked(crc: int) -> int:
    """Returns a CRC as stored in a file (LevelDB's format: rotated by 15 bits, plus 0xa282ead8)."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
