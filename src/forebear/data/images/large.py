"""Keeps the memory that decoding takes small, however large the images are.

Pillow stores a pixel in four bytes, so an image of 64 megapixels takes 256 MB, and a converted or
rotated copy takes the same again. A large image is therefore converted through a temporary file,
and threads that decode wait until the images of the others leave room.
"""

from __future__ import annotations

import ctypes
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from PIL import Image

from forebear.hardware import processor
from forebear.limits import DECODE_BYTES, DECODE_BYTES_PER_CORE, DIRECT_PIXELS

_BAND = 50_000  # pixels; glibc keeps freed memory of this order for each thread
_GIVES_BACK = 64_000_000  # bytes of images after which freed memory is given back to the system
_STORED = 4  # bytes of a pixel in Pillow, in every mode with three or four bands


def converted(
    image: Image.Image,
    mode: str,
    convert: Callable[[Image.Image], Image.Image],
    turn: Image.Transpose | None,
) -> Image.Image:
    """Returns a converted and rotated image, with at most one copy of a large one in memory.

    Args:
        image: The source. A large one is closed.
        mode: The mode of the result.
        convert: Returns a band of the image, or all of it, in that mode, pixel by pixel.
        turn: The rotation; None for none.
    """
    if image.width * image.height <= DIRECT_PIXELS:
        flat = convert(image)
        return flat if turn is None else flat.transpose(turn)
    with tempfile.TemporaryFile() as file:
        places = []
        rows = max(1, _BAND // image.width)
        for top in range(0, image.height, rows):
            box = (0, top, image.width, min(top + rows, image.height))
            band = convert(image.crop(box))
            band = band if turn is None else band.transpose(turn)
            places.append((_place(box, image.size, turn), band.size))
            file.write(band.tobytes())
        size = image.size if turn is None or not _swaps(turn) else image.size[::-1]
        image.close()
        result = Image.new(mode, size)
        file.seek(0)
        for place, (width, height) in places:
            content = file.read(width * height * len(result.getbands()))
            result.paste(Image.frombytes(mode, (width, height), content), place)
    return result


def _swaps(turn: Image.Transpose) -> bool:
    """Whether width and height change places."""
    kinds = Image.Transpose
    return turn in (kinds.TRANSPOSE, kinds.TRANSVERSE, kinds.ROTATE_90, kinds.ROTATE_270)


def _place(
    box: tuple[int, int, int, int], size: tuple[int, int], turn: Image.Transpose | None
) -> tuple[int, int]:
    """Returns where the upper left corner of a band of full width is after the rotation."""
    top, below = box[1], size[1] - box[3]
    kinds = Image.Transpose
    if turn in (kinds.FLIP_TOP_BOTTOM, kinds.ROTATE_180):
        return 0, below
    if turn in (kinds.TRANSPOSE, kinds.ROTATE_90):
        return top, 0
    if turn in (kinds.TRANSVERSE, kinds.ROTATE_270):
        return below, 0
    return 0, top


class _Gate:
    """Lets threads decode at the same time as long as their images fit in a number of bytes."""

    def __init__(self) -> None:
        self._free: int | None = None  # bytes
        self._changed = threading.Condition()
        self._held = threading.local()

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Within it, the images that this thread decodes count; at its end they are released."""
        self._held.bytes = 0
        try:
            yield
        finally:
            held, self._held.bytes = self._held.bytes, None
            if held:
                if held > _GIVES_BACK:
                    _trim()
                with self._changed:
                    assert self._free is not None
                    self._free += held
                    self._changed.notify_all()

    def charge(self, width: int, height: int) -> None:
        """Waits until an image of this size fits; outside of a scope it returns at once."""
        held = getattr(self._held, "bytes", None)
        if held is None:
            return
        pixels = width * height
        copies = 1 if pixels > DIRECT_PIXELS else 2  # a small one is copied to convert it
        with self._changed:
            if self._free is None:
                self._free = budget()
            cost = min(_STORED * copies * pixels, budget())
            while self._free < cost:
                self._changed.wait()
            self._free -= cost
        self._held.bytes = held + cost


def _trim() -> None:
    """Gives freed memory back to the system; glibc would keep it, for each thread by itself."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)


def budget() -> int:
    """Returns the bytes that images which are being decoded may take together."""
    return max(DECODE_BYTES, DECODE_BYTES_PER_CORE * processor().cores)


GATE = _Gate()
