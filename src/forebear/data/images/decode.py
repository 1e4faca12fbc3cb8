"""From an encoded picture to 8-bit RGB or grey pixels, the same whatever the file's mode is.

Colour profiles are not applied: CMYK goes through Pillow's plain conversion, which is what the
published networks saw. `forebear.data.images.preprocess` crops, resizes and scales.
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

# WEBP last: Pillow can be built without it, and stumbles over the name in a list.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "PPM", "WEBP")
MOST_PIXELS = 64_000_000  # a 64 megapixel picture takes 192 MB as RGB

Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels of a whole picture
ChooseBox = Callable[[int, int], Box]  # told the width and height of the whole picture, upright

_KINDS = "JPEG, PNG, GIF, BMP, TIFF, PPM or WebP"
_REDUCING_GAP = 2.0  # Pillow averages whole blocks first where a box is shrunk fourfold or more
_UPRIGHT = {  # EXIF 2.32, table 4.6.4, tag 274: what puts row 0 on top and column 0 on the left
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PNG_BITS = 24  # byte of the file: behind the signature, IHDR's length and name, width and height
_TIFF_BITS = 258
_TIFF_LOWEST, _TIFF_HIGHEST = (340, 280), (341, 281)  # SMin, Min and SMax, MaxSampleValue


def open_picture(
    source: Path | bytes,
    *,
    name: str | None = None,
    channels: int = 3,
) -> Image.Image:
    """The decoded picture, upright, in mode RGB (3 channels) or L (1 channel).

    The format is told by content, never by the file's name. Transparent parts show white, the
    first frame of an animation is taken, 16-bit samples are scaled to 8 bits. Safe to call from
    several threads at once.

    Args:
        source: A file, or the encoded bytes themselves.
        name: What error messages call the picture; a file's path when left out.
        channels: 3 or 1.

    Raises:
        DataError: The picture is missing, empty, cut short, too large or no picture at all.
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
    """A part of a picture, upright, brought to size x size pixels, in mode RGB.

    A JPEG is decoded at the smallest scale that keeps `size` pixels on the box's shorter side; the
    box is then resized at once with antialiasing, so that nothing outside it is.

    Args:
        source: A file, or the encoded bytes themselves.
        choose: Says which part, once the picture's size is known.
        size: Pixels.
        name: What error messages call the picture; a file's path when left out.

    Raises:
        DataError: As `open_picture`.
    """
    shown = _source_name(source, name)
    encoded = _encoded(source, shown)
    with _named(shown, encoded):
        image = _opened(encoded, shown)
        # Other formats know no scales, and some say only once loaded how they are turned.
        whole = _upright_size(image) if image.format == "JPEG" else None
    box = None if whole is None else choose(*whole)  # outside: its faults are not the picture's
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
    """The part of a picture inside a box, brought to size x size pixels with antialiasing.

    Args:
        image: The picture, or a smaller edition of it.
        whole: Width and height of the picture that the box was measured on.
        box: Cut down to the picture where it reaches beyond.
        size: Pixels.
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
            f"{shown}: the file is empty (0 bytes). Expected a {_KINDS} picture. "
            "Restore it from its source or remove it."
        )
    return encoded


def _opened(encoded: bytes, shown: str) -> Image.Image:
    """The picture of which only the header was read."""
    image = Image.open(BytesIO(encoded), formats=FORMATS)
    _refuse_large(image, shown)
    return image


@contextmanager
def _named(shown: str, encoded: bytes) -> Iterator[None]:
    """Turns whatever is raised inside into a DataError that names the picture."""
    try:
        yield
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(
            f"{shown}: not a picture; it begins with {encoded[:12]!r}. Expected a {_KINDS} "
            "picture. Replace the file or remove it."
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(shown, str(error)) from None
    except Exception as error:  # Pillow's plugins raise whatever the broken bytes led them to
        raise DataError(
            f"{shown}: cannot be decoded ({str(error) or type(error).__name__}). Expected a whole "
            f"{_KINDS} picture. Replace the file or remove it."
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a picture's file says of it."""

    width: int  # pixels, as stored
    height: int
    mode: str  # Pillow's: RGB, L, CMYK, P, ...
    format: str  # of `FORMATS`, by content
    bits: int  # of a sample
    frames: int  # more than one: an animation, or pages
    orientation: int  # EXIF's, 1 for upright


def look_at(encoded: bytes, name: str) -> tuple[Facts | None, str | None]:
    """What a picture's file says of it, and why it cannot be used.

    The picture is decoded to its last pixel, as `open_picture` does: a JPEG cut in half passes
    every check of its header.

    Args:
        encoded: The file's bytes.
        name: What the reason calls it.

    Returns:
        The facts, None where the header cannot be read, and the reason, None where there is none.
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


def upright(image: Image.Image, *, name: str = "the picture", channels: int = 3) -> Image.Image:
    """A decoded picture turned as its EXIF says, in mode RGB (3 channels) or L (1 channel).

    The picture given stays as it is.

    Raises:
        DataError: its samples have no known range.
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
            f"{shown}: no such file. Expected a picture. Check the path, and run from the folder "
            "that it is relative to."
        ) from None
    except IsADirectoryError:
        raise DataError(
            f"{shown}: a folder, not a picture. Expected a file. Name the pictures inside it."
        ) from None
    except OSError as error:
        raise DataError(
            f"{shown}: cannot be read ({error.strerror}). Expected a readable file. "
            "Check its permissions and the disk."
        ) from error


def _refuse_large(image: Image.Image, shown: str) -> None:
    """Called before any pixel is decoded: the size comes from the header."""
    if image.width * image.height > MOST_PIXELS:
        raise _too_large(shown, f"{image.width} x {image.height} pixels")


def _too_large(shown: str, found: str) -> DataError:
    return DataError(
        f"{shown}: too large ({found}). Expected at most {MOST_PIXELS // 1_000_000} megapixels. "
        "Make the picture smaller or remove it."
    )


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 where there is none; asked after load, as PNG may keep it at the end.

    Pillow turns TIFF pictures by itself and then drops the tag, so that they answer 1.
    """
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # broken EXIF raises anything, and says nothing about the pixels
        return 1


def _upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height once turned, from the header."""
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
    """Of a sample; Pillow's mode says RGB for 16 bits too."""
    if image.format == "PNG":
        return encoded[_PNG_BITS]
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    deep = 32 if image.mode in ("I", "F") else 16 if image.mode.startswith("I;16") else 8
    return int(tags.get(_TIFF_BITS, (deep,))[0])


def _flat(image: Image.Image, channels: int, shown: str) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        image = _eight_bits(image, shown)
    if image.has_transparency_data:  # convert("RGB") would bring out the hidden colours
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    mode = "RGB" if channels == 3 else "L"
    return image if image.mode == mode else image.convert(mode)  # convert would copy


def _eight_bits(image: Image.Image, shown: str) -> Image.Image:
    """Mode L from a deeper grey one; Pillow's own conversion would clip all above 255."""
    low, high = _range(image, shown)
    values = np.asarray(image)
    if not (low < high and low <= values.min() and values.max() <= high):  # and no NaN
        raise DataError(
            f"{shown}: {image.mode} samples from {values.min()} to {values.max()}. Expected them "
            f"within the declared {low:g} to {high:g}. Save the picture with 8 or 16 bits."
        )
    grey = np.rint((values.astype(np.float64) - low) * (255 / (high - low)))
    grey[values == image.info.get("transparency", -1)] = 255
    return Image.fromarray(grey.astype(np.uint8))


def _range(image: Image.Image, shown: str) -> tuple[float, float]:
    """The least and greatest value that the file's samples can take."""
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    if image.mode.startswith("I;16"):
        return 0, 2 ** tags.get(_TIFF_BITS, (16,))[0] - 1
    if image.mode == "I" and image.format in ("PNG", "PPM"):
        return 0, 65535  # Pillow brings any other greatest value of a PPM to this one
    low = next((tags[tag] for tag in _TIFF_LOWEST if tag in tags), None)
    high = next((tags[tag] for tag in _TIFF_HIGHEST if tag in tags), None)
    if low is None or high is None:
        raise DataError(
            f"{shown}: {image.mode} samples (32 bits) of unknown range. Expected 8 or 16 bits a "
            "sample, or a TIFF that declares its least and greatest value. Save it with 8 bits."
        )
    return float(np.min(low)), float(np.max(high))
