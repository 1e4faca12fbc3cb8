"""Converts decoded images of any mode to 8-bit RGB or greyscale, upright."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from forebear.data.images.large import converted
from forebear.errors import DataError

Levels = tuple[float, float]  # the sample values that become 0 and 255

TIFF_BITS = 258
_TIFF_LOWEST, _TIFF_HIGHEST = (340, 280), (341, 281)  # SMin, Min and SMax, MaxSampleValue
_BAND = 50_000  # pixels that are looked at at a time
_UPRIGHT = {  # EXIF 2.32, table 4.6.4, tag 274: moves row 0 to the top and column 0 to the left
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def flat_and_upright(
    image: Image.Image, channels: int, shown: str, levels: Levels | None
) -> Image.Image:
    """Returns a decoded image rotated by its EXIF orientation, in mode RGB or L.

    Args:
        image: The decoded image. A large one is closed.
        channels: 3 for RGB, 1 for L.
        shown: Name of the image in error messages.
        levels: Sample values of a deeper image that become 0 and 255; None: the whole range of
            its samples.

    Raises:
        DataError: The range of the sample values is unknown.
    """
    turn = _UPRIGHT.get(orientation(image))
    mode = "RGB" if channels == 3 else "L"
    convert = _conversion(image, mode, shown, levels)
    if convert is None:
        return image if turn is None else converted(image, mode, lambda band: band, turn)
    return converted(image, mode, convert, turn)


def turned_upright(image: Image.Image) -> Image.Image:
    """Returns the image rotated by its EXIF orientation, in its own mode."""
    turn = _UPRIGHT.get(orientation(image))
    return image if turn is None else image.transpose(turn)


def orientation(image: Image.Image) -> int:
    """Returns the EXIF orientation, or 1 if there is none.

    Call it after `load`, because a PNG may store EXIF data after the pixels. Pillow rotates TIFF
    images itself and then removes the tag, so this returns 1 for them.
    """
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # broken EXIF data raise any kind of exception; the pixels can be fine
        return 1


def sample_range(image: Image.Image) -> Levels | None:
    """Returns the lowest and the highest sample of a deeper greyscale image; None for others."""
    if not image.mode.startswith(("I", "F")):
        return None
    ends = [(values.min(), values.max()) for values in _bands(image)]
    return float(min(low for low, _ in ends)), float(max(high for _, high in ends))


def _conversion(
    image: Image.Image, mode: str, shown: str, levels: Levels | None
) -> Callable[[Image.Image], Image.Image] | None:
    """Returns what converts a band of the image; None if it has the mode already."""
    if image.mode.startswith(("I", "F")):
        return _from_deep(image, mode, shown, levels)
    if image.has_transparency_data:  # convert("RGB") would show the colours of hidden pixels
        return lambda band: _on_white(band).convert(mode)
    if image.mode == mode:
        return None
    return lambda band: band.convert(mode)


def _on_white(band: Image.Image) -> Image.Image:
    white = Image.new("RGBA", band.size, "white")
    return Image.alpha_composite(white, band.convert("RGBA"))


def _from_deep(
    image: Image.Image, mode: str, shown: str, levels: Levels | None
) -> Callable[[Image.Image], Image.Image]:
    """Scales a deeper greyscale image to 8 bits; Pillow's conversion would clip values at 255."""
    found = sample_range(image)
    assert found is not None
    low, high = _range(image, shown) if levels is None else levels
    inside = levels is not None or (low <= found[0] and found[1] <= high)
    if not (low < high and inside and np.isfinite(found).all()):
        raise DataError(
            f"{shown}: {image.mode} samples from {found[0]:g} to {found[1]:g}. Expected values "
            f"in the declared range {low:g} to {high:g}. Save the image with 8 or 16 bits."
        )
    hidden = image.info.get("transparency", -1)

    def convert(band: Image.Image) -> Image.Image:
        values = np.asarray(band)
        scaled = (values.astype(np.float64) - low) * (255 / (high - low))
        grey = np.rint(scaled.clip(0, 255))
        grey[values == hidden] = 255
        return Image.fromarray(grey.astype(np.uint8)).convert(mode)

    return convert


def _bands(image: Image.Image) -> list[NDArray[Any]]:
    """Returns the lowest and highest values of bands of rows, so that no array has all values."""
    ends = []
    rows = max(1, _BAND // image.width)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        values = np.asarray(image.crop(box))
        ends.append(np.array([values.min(), values.max()]))
    return ends


def _range(image: Image.Image, shown: str) -> Levels:
    """Returns the smallest and largest value that the samples of the file can have."""
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    if image.mode.startswith("I;16"):
        return 0, 2 ** tags.get(TIFF_BITS, (16,))[0] - 1
    if image.mode == "I" and image.format in ("PNG", "PPM"):
        return 0, 65535  # Pillow rescales a PPM with any other maximum to this range
    low = next((tags[tag] for tag in _TIFF_LOWEST if tag in tags), None)
    high = next((tags[tag] for tag in _TIFF_HIGHEST if tag in tags), None)
    if low is None or high is None:
        raise DataError(
            f"{shown}: {image.mode} samples (32 bits) of unknown range. Expected 8 or 16 bits per "
            "sample, or a TIFF that declares its minimum and maximum. Save it with 8 bits."
        )
    return float(np.min(low)), float(np.max(high))
