"""Decodes image files of any mode to 8-bit RGB or greyscale pixels.

Colour profiles are not applied. CMYK goes through Pillow's plain conversion, as it did when the
published networks were trained. `forebear.data.images.preprocess` crops, resizes and normalises.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from forebear.errors import DataError
from forebear.text import printable

# WEBP comes last: Pillow can be built without it, and fails at the name of a missing format.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "PPM", "WEBP")
MOST_PIXELS = 64_000_000  # a 64 megapixel image takes 192 MB as RGB

Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels of the full image
ChooseBox = Callable[[int, int], Box]  # from the width and height of the full image, upright

_KINDS = "JPEG, PNG, GIF, BMP, TIFF, PPM or WebP"
_REDUCING_GAP = 2.0  # when it shrinks a box fourfold or more, Pillow first averages whole blocks
_UPRIGHT = {  # EXIF 2.32, table 4.6.4, tag 274: moves row 0 to the top and column 0 to the left
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PNG_BITS = 24  # byte offset: after the signature, IHDR's length and name, width and height
_TIFF_BITS = 258
_TIFF_LOWEST, _TIFF_HIGHEST = (340, 280), (341, 281)  # SMin, Min and SMax, MaxSampleValue


def open_image(
    source: Path | bytes,
    *,
    name: str | None = None,
    channels: int = 3,
) -> Image.Image:
    """Returns the decoded image, upright, in mode RGB (3 channels) or L (1 channel).

    The format is detected from the content, never from the file name. Transparent pixels are
    blended with white, animations are reduced to their first frame, and 16-bit samples are scaled
    to 8 bits. The function is thread-safe.

    Args:
        source: A file, or the encoded bytes themselves.
        name: Name of the image in error messages (default: the path of the file).
        channels: 3 or 1.

    Raises:
        DataError: The file is missing, empty, truncated, too large or not an image.
    """
    shown = _source_name(source, name)
    encoded = _encoded(source, shown)
    with _named(shown, encoded):
        image = _opened(encoded, shown)
        image.load()
        return upright(image, name=shown, channels=channels)


def open_part(
    source: Path | bytes, choose: ChooseBox, size: int, *, name: str | None = None
) -> Image.Image:
    """Returns a crop of the upright image, resized to size x size pixels, in mode RGB.

    A JPEG is decoded at the smallest scale that leaves at least `size` pixels on the shorter side
    of the box. Only the box is then resized, with antialiasing.

    Args:
        source: A file, or the encoded bytes themselves.
        choose: Returns the box to crop, given the width and height of the image.
        size: Side of the result in pixels.
        name: Name of the image in error messages (default: the path of the file).

    Raises:
        DataError: As in `open_image`.
    """
    shown = _source_name(source, name)
    encoded = _encoded(source, shown)
    with _named(shown, encoded):
        image = _opened(encoded, shown)
        # Other formats cannot be decoded at a scale, and some store the orientation at the end.
        whole = _upright_size(image) if image.format == "JPEG" else None
    box = None if whole is None else choose(*whole)  # outside `_named`: its errors pass unchanged
    with _named(shown, encoded):
        if whole is not None and box is not None:
            shorter = max(1.0, min(box[2] - box[0], box[3] - box[1]))
            enough = max(1, math.ceil(size * min(whole) / shorter))
            image.draft(None, (enough, enough))
        image.load()
        image = upright(image, name=shown)
    if whole is None or box is None:
        whole, box = image.size, choose(*image.size)
    return resized(image, whole, box, size)


def resized(image: Image.Image, whole: tuple[int, int], box: Box, size: int) -> Image.Image:
    """Returns the part of an image inside a box, resized to size x size with antialiasing.

    Args:
        image: The image, or a downscaled version of it.
        whole: Width and height of the full image, in whose pixels the box is given.
        box: The box, which is clipped to the image.
        size: Side of the result in pixels.
    """
    across, down = image.width / whole[0], image.height / whole[1]
    left, top = max(0.0, box[0] * across), max(0.0, box[1] * down)
    right, bottom = min(box[2] * across, image.width), min(box[3] * down, image.height)
    return image.resize(
        (size, size), Image.Resampling.BILINEAR, (left, top, right, bottom), _REDUCING_GAP
    )


def _encoded(source: Path | bytes, shown: str) -> bytes:
    encoded = _read(source, shown) if isinstance(source, Path) else source
    if not encoded:
        raise DataError(
            f"{shown}: the file is empty (0 bytes). Expected a {_KINDS} image. "
            "Restore it from its source or remove it."
        )
    return encoded


def _opened(encoded: bytes, shown: str) -> Image.Image:
    """Opens the image, and reads only its header."""
    image = Image.open(BytesIO(encoded), formats=FORMATS)
    _refuse_large(image, shown)
    return image


@contextmanager
def _named(shown: str, encoded: bytes) -> Iterator[None]:
    """Converts any exception raised inside into a DataError that names the image."""
    try:
        yield
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(
            f"{shown}: not an image; it begins with {encoded[:12]!r}. Expected a {_KINDS} "
            "image. Replace the file or remove it."
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(shown, str(error)) from None
    except Exception as error:  # Pillow's plugins raise any kind of exception for broken bytes
        raise DataError(
            f"{shown}: cannot be decoded ({str(error) or type(error).__name__}). Expected a "
            f"complete {_KINDS} image. Replace the file or remove it."
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Metadata of an image file."""

    width: int  # pixels, as stored
    height: int  # pixels, as stored
    mode: str  # of Pillow: RGB, L, CMYK, P, ...
    format: str  # one of `FORMATS`, detected from the content
    bits: int  # per sample
    frames: int  # more than 1 for an animation or several pages
    orientation: int  # EXIF orientation, 1 for upright


def look_at(encoded: bytes, name: str) -> tuple[Facts | None, str | None]:
    """Returns the metadata of an image file, and the reason if the image cannot be used.

    The image is decoded completely, as in `open_image`, because a truncated JPEG passes every
    check of its header.

    Args:
        encoded: The bytes of the file.
        name: Name of the image in the reason.

    Returns:
        The metadata, or None if the header cannot be read; and the reason why the image cannot be
        used, or None if it can.
    """
    shown, facts = printable(name), None
    try:
        content = _encoded(encoded, shown)
        with _named(shown, content):
            image = _opened(content, shown)
            facts = _facts(image, content)
            image.load()
            facts = replace(facts, orientation=_orientation(image))
            upright(image, name=shown)
    except DataError as error:
        return facts, str(error)
    return facts, None


def upright(image: Image.Image, *, name: str = "the image", channels: int = 3) -> Image.Image:
    """Returns a decoded image rotated by its EXIF orientation, in mode RGB or L.

    The argument is not modified.

    Args:
        image: The decoded image.
        name: Name of the image in error messages.
        channels: 3 for RGB, 1 for L.

    Raises:
        DataError: The range of the sample values is unknown.
    """
    turn = _UPRIGHT.get(_orientation(image))
    flat = _flat(image, channels, name)
    return flat if turn is None else flat.transpose(turn)


def _source_name(source: Path | bytes, name: str | None) -> str:
    """What messages call an image: its own name, else its path."""
    return printable(name or (source if isinstance(source, Path) else "the bytes given"))


def _read(path: Path, shown: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(
            f"{shown}: no such file. Expected an image file. Check the path; a relative path "
            "starts at the current folder."
        ) from None
    except IsADirectoryError:
        raise DataError(
            f"{shown}: a folder, not a file. Expected an image file. Pass the images inside it."
        ) from None
    except OSError as error:
        raise DataError(
            f"{shown}: cannot be read ({error.strerror}). Expected a readable file. "
            "Check its permissions and the disk."
        ) from error


def _refuse_large(image: Image.Image, shown: str) -> None:
    """Raises DataError for a large image before any pixel is decoded, by the header's size."""
    if image.width * image.height > MOST_PIXELS:
        raise _too_large(shown, f"{image.width} x {image.height} pixels")


def _too_large(shown: str, found: str) -> DataError:
    return DataError(
        f"{shown}: too large ({found}). Expected at most {MOST_PIXELS // 1_000_000} megapixels. "
        "Downscale the image or remove it."
    )


def _orientation(image: Image.Image) -> int:
    """Returns the EXIF orientation, or 1 if there is none.

    Call it after `load`, because a PNG may store EXIF data after the pixels. Pillow rotates TIFF
    images itself and then removes the tag, so this returns 1 for them.
    """
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # broken EXIF data raise any kind of exception; the pixels can be fine
        return 1


def _upright_size(image: Image.Image) -> tuple[int, int]:
    """Returns width and height after EXIF rotation, from the header alone."""
    across, down = image.size
    return (down, across) if _orientation(image) in (5, 6, 7, 8) else (across, down)


def _facts(image: Image.Image, encoded: bytes) -> Facts:
    return Facts(
        width=image.width,
        height=image.height,
        mode=image.mode,
        format=str(image.format),
        bits=_bits(image, encoded),
        frames=getattr(image, "n_frames", 1),
        orientation=1,
    )


def _bits(image: Image.Image, encoded: bytes) -> int:
    """Returns the bits per sample. Pillow's mode does not tell: 16-bit RGB has mode RGB too."""
    if image.format == "PNG":
        return encoded[_PNG_BITS]
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    deep = 32 if image.mode in ("I", "F") else 16 if image.mode.startswith("I;16") else 8
    return int(tags.get(_TIFF_BITS, (deep,))[0])


def _flat(image: Image.Image, channels: int, shown: str) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        image = _eight_bits(image, shown)
    if image.has_transparency_data:  # convert("RGB") would show the colours of hidden pixels
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    mode = "RGB" if channels == 3 else "L"
    return image if image.mode == mode else image.convert(mode)  # convert always copies


def _eight_bits(image: Image.Image, shown: str) -> Image.Image:
    """Scales a deeper greyscale image to mode L; Pillow's conversion would clip values at 255."""
    low, high = _range(image, shown)
    values = np.asarray(image)
    if not (low < high and low <= values.min() and values.max() <= high):  # and no NaN
        raise DataError(
            f"{shown}: {image.mode} samples from {values.min()} to {values.max()}. Expected values "
            f"in the declared range {low:g} to {high:g}. Save the image with 8 or 16 bits."
        )
    grey = np.rint((values.astype(np.float64) - low) * (255 / (high - low)))
    grey[values == image.info.get("transparency", -1)] = 255
    return Image.fromarray(grey.astype(np.uint8))


def _range(image: Image.Image, shown: str) -> tuple[float, float]:
    """Returns the smallest and largest value that the samples of the file can have."""
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    if image.mode.startswith("I;16"):
        return 0, 2 ** tags.get(_TIFF_BITS, (16,))[0] - 1
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
