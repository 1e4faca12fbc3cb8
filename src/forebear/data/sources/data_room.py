"""How many bytes of images a data set may bring into memory."""

from __future__ import annotations

from forebear.hardware import processor
from forebear.limits import DATA_BYTES

_SHARE = 0.7  # of the memory of the machine; training needs the rest


def data_room() -> int:
    """Returns the bytes that all images of a data set may take in memory."""
    memory = processor().memory
    return min(DATA_BYTES, int(_SHARE * memory)) if memory else DATA_BYTES
