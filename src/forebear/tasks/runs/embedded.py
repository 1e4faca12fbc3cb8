"""Images as data URIs, so that a page needs no other file.

A page stays small: a large photograph becomes a JPEG, and a large drawing gets a palette.
"""

from __future__ import annotations

import base64
import re
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from forebear.data.images.bands import visible
from forebear.limits import IMAGE_BYTES
from forebear.untrusted import read_bytes

SIDE = 160  # pixels: longest side of a thumbnail
_SMALL = 150_000  # bytes: a PNG of this size is embedded unchanged
_QUALITY = 80  # of a JPEG
_COLOURS = 64  # of a drawing that is larger
_PNG = b"\x89PNG\r\n\x1a\n"
_URI = re.compile(r"data:image/(png|jpeg);base64,[A-Za-z0-9+/]+={0,2}")
_DAMAGED = (
    OSError,
    ValueError,
    SyntaxError,  # Pillow's for a damaged PNG
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


def is_image_uri(text: object) -> bool:
    """Whether a text is the data URI of a PNG or a JPEG."""
    return isinstance(text, str) and _URI.fullmatch(text) is not None


def image_uri(path: Path, *, drawing: bool) -> str:
    """Returns a PNG file as a data URI; "" if it is missing or damaged.

    Args:
        path: The file.
        drawing: Whether it has lines and text only. Otherwise it has photographs.
    """
    try:
        content = read_bytes(path, most=IMAGE_BYTES)
        if content.startswith(_PNG) and len(content) <= _SMALL:
            return _uri(content, "png")
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(BytesIO(content), formats=["PNG"]).convert("RGB")
        return _png(image.quantize(_COLOURS)) if drawing else _jpeg(image)
    except _DAMAGED:
        return ""


def thumbnail_uri(pixels: NDArray[np.uint8]) -> str:
    """Returns an image as the data URI of a thumbnail; pixels of small images stay squares.

    Args:
        pixels: [H, W, C]; of more than three channels some are shown as RGB.
    """
    values = visible(pixels)
    image = Image.fromarray(values[:, :, 0] if values.shape[2] == 1 else values).convert("RGB")
    scale = SIDE / max(image.size)
    if scale >= 4:
        whole = int(scale)
        size = (image.width * whole, image.height * whole)
        return _png(image.resize(size, Image.Resampling.NEAREST))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return _jpeg(image.resize(size, Image.Resampling.LANCZOS))


def _png(image: Image.Image) -> str:
    file = BytesIO()
    image.save(file, "PNG", optimize=True)
    return _uri(file.getvalue(), "png")


def _jpeg(image: Image.Image) -> str:
    file = BytesIO()
    image.save(file, "JPEG", quality=_QUALITY, optimize=True)
    return _uri(file.getvalue(), "jpeg")


def _uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
