"""Decodes image files of any mode to 8-bit RGB or greyscale pixels.

Colour profiles are not applied. CMYK goes through Pillow's plain conversion, as it did when the
published networks were trained. `forebear.data.images.preprocess` crops, resizes and normalises.
"""

from __future__ import annotations

import errno
import importlib
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from PIL import Image, UnidentifiedImageError, features

from forebear.data.images.flatten import (
    TIFF_BITS,
    Levels,
    flat_and_upright,
    orientation,
    sample_range,
    turned_upright,
)
from forebear.data.images.large import GATE
from forebear.data.images.sniff import START, what_is
from forebear.errors import DataError
from forebear.limits import (
    DIRECT_PIXELS,
    IMAGE_BYTES,
    IMAGE_PIXELS,
    MIB,
    PIXELS_OF,
    PROGRESSIVE_PIXELS,
)
from forebear.text import printable
from forebear.untrusted import opened

_NEEDS = {"WEBP": "webp", "AVIF": "avif", "JPEG2000": "jpg_2000"}  # features of Pillow

FORMATS = (
    *("JPEG", "PNG", "GIF", "BMP", "TIFF", "PPM"),
    *(name for name, needs in _NEEDS.items() if features.check(needs)),
)

Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels of the full image
ChooseBox = Callable[[int, int], Box]  # from the width and height of the full image, upright

_KINDS = "JPEG, PNG, GIF, BMP, TIFF, PPM, WebP, AVIF or JPEG 2000"
_REDUCING_GAP = 2.0  # when it shrinks a box fourfold or more, Pillow first averages whole blocks
_PNG_BITS = 24  # byte offset: after the signature, IHDR's length and name, width and height
_SMALL_FILE = 2 * MIB  # up to this size a file is read as a whole


def open_image(
    source: Path | bytes,
    *,
    name: str | None = None,
    channels: int = 3,
    levels: Levels | None = None,
) -> Image.Image:
    """Returns the decoded image, upright, in mode RGB (3 channels) or L (1 channel).

    The format is detected from the content, never from the file name. Transparent pixels are
    blended with white, animations are reduced to their first frame, and 16-bit samples are scaled
    to 8 bits. The function is thread-safe.

    Args:
        source: A file, or the encoded bytes themselves.
        name: Name of the image in error messages (default: the path of the file).
        channels: 3 or 1.
        levels: Sample values of a deeper image that become 0 and 255; None: the whole range.

    Raises:
        DataError: The file is missing, empty, truncated, too large or not an image.
    """
    shown = _source_name(source, name)
    with _content(source, shown) as file, _named(shown, file):
        image = _opened(file, shown)
        GATE.charge(*image.size)
        image.load()
        return flat_and_upright(image, channels, shown, levels)


def open_raw(source: Path | bytes, *, name: str | None = None) -> Image.Image:
    """Returns the decoded image, upright, in the mode of its file: no channel is blended.

    Raises:
        DataError: As in `open_image`.
    """
    shown = _source_name(source, name)
    with _content(source, shown) as file, _named(shown, file):
        image = _opened(file, shown)
        GATE.charge(*image.size)
        image.load()
        return turned_upright(image)


def open_part(
    source: Path | bytes,
    choose: ChooseBox,
    shape: tuple[int, int],
    *,
    name: str | None = None,
    levels: Levels | None = None,
) -> Image.Image:
    """Returns a crop of the upright image, resized to height x width pixels, in mode RGB.

    A JPEG is decoded at the smallest scale that leaves at least as many pixels in the box as the
    result has, along both sides. Only the box is then resized, with antialiasing.

    Args:
        source: A file, or the encoded bytes themselves.
        choose: Returns the box to crop, given the width and height of the image.
        shape: Height and width of the result in pixels.
        name: Name of the image in error messages (default: the path of the file).
        levels: As in `open_image`.

    Raises:
        DataError: As in `open_image`.
    """
    shown = _source_name(source, name)
    with _content(source, shown) as file:
        with _named(shown, file):
            image = _opened(file, shown)
            # Other formats cannot be decoded at a scale, and some store the orientation at the end.
            whole = _upright_size(image) if image.format == "JPEG" else None
        box = None if whole is None else choose(*whole)  # outside `_named`: its errors pass
        with _named(shown, file):
            if whole is not None and box is not None:
                sides = (max(1.0, box[3] - box[1]), max(1.0, box[2] - box[0]))
                needed = (to * min(whole) / side for to, side in zip(shape, sides, strict=True))
                enough = max(1, math.ceil(max(needed)))
                image.draft(None, (enough, enough))
            GATE.charge(*image.size)
            image.load()
            image = flat_and_upright(image, 3, shown, levels)
    if whole is None or box is None:
        whole, box = image.size, choose(*image.size)
    return resized(image, whole, box, shape)


def resized(
    image: Image.Image, whole: tuple[int, int], box: Box, shape: tuple[int, int]
) -> Image.Image:
    """Returns the part of an image inside a box, resized to height x width with antialiasing.

    Args:
        image: The image, or a downscaled version of it.
        whole: Width and height of the full image, in whose pixels the box is given.
        box: The box, which is clipped to the image.
        shape: Height and width of the result in pixels.
    """
    across, down = image.width / whole[0], image.height / whole[1]
    left, top = max(0.0, box[0] * across), max(0.0, box[1] * down)
    right, bottom = min(box[2] * across, image.width), min(box[3] * down, image.height)
    return image.resize(
        shape[::-1], Image.Resampling.BILINEAR, (left, top, right, bottom), _REDUCING_GAP
    )


@contextmanager
def _content(source: Path | bytes, shown: str) -> Iterator[IO[bytes]]:
    """Opens the encoded image. A large file stays on the disk."""
    if isinstance(source, bytes):
        if not source:
            raise _empty(shown)
        yield BytesIO(source)
        return
    with ExitStack() as stack:
        try:
            file: IO[bytes] = stack.enter_context(opened(source, most=IMAGE_BYTES))
            if os.fstat(file.fileno()).st_size <= _SMALL_FILE:
                file = BytesIO(file.read())
            start = file.read(1)
            file.seek(0)
        except OSError as error:
            raise _unreadable(shown, error) from None
        if not start:
            raise _empty(shown)
        yield file


def _unreadable(shown: str, error: OSError) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(
            f"{shown}: no such file. Expected an image file. Check the path; a relative path "
            "starts at the current folder."
        )
    if error.errno == errno.EISDIR or "it is a folder" in str(error.strerror):
        return DataError(
            f"{shown}: a folder, not a file. Expected an image file. Pass the images inside it."
        )
    return DataError(
        f"{shown}: cannot be read ({error.strerror}). Expected a readable image file of at most "
        f"{IMAGE_BYTES // MIB} MiB. Check its permissions, or remove it."
    )


def _empty(shown: str) -> DataError:
    return DataError(
        f"{shown}: the file is empty (0 bytes). Expected a {_KINDS} image. "
        "Restore it from its source or remove it."
    )


def _opened(file: IO[bytes], shown: str) -> Image.Image:
    """Opens the image, and reads only its header."""
    start = file.read(START)
    file.seek(0)
    formats = FORMATS
    if what_is(start) == "HEIC":
        formats = (_with_heif(shown),)
    image = Image.open(file, formats=formats)
    _refuse_large(image, shown)
    return image


def _with_heif(shown: str) -> str:
    """Makes Pillow read HEIC, and returns its name of the format.

    Raises:
        DataError: pillow-heif is not installed.
    """
    try:
        heif = importlib.import_module("pillow_heif")
    except ImportError:
        raise DataError(
            f"{shown}: a HEIC image, which needs pillow-heif. Expected a {_KINDS} image, or "
            "pillow-heif. Run pip install 'forebear[heif]', or save the image as JPEG."
        ) from None
    heif.register_heif_opener()
    return "HEIF"


@contextmanager
def _named(shown: str, file: IO[bytes]) -> Iterator[None]:
    """Converts any exception raised inside into a DataError that names the image."""
    try:
        yield
    except DataError:
        raise
    except UnidentifiedImageError:
        raise _no_image(shown, file) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(shown, str(error)) from None
    except MemoryError:
        raise DataError(
            f"{shown}: there is not enough memory to decode it. Expected a {_KINDS} image that "
            "fits. Downscale the image, or free some memory."
        ) from None
    except Exception as error:  # Pillow's plugins raise any kind of exception for broken bytes
        raise DataError(
            f"{shown}: cannot be decoded ({printable(error) or type(error).__name__}). Expected a "
            f"complete {_KINDS} image. Replace the file or remove it."
        ) from error


def _no_image(shown: str, file: IO[bytes]) -> DataError:
    file.seek(0)
    start = file.read(START)
    known = what_is(start)
    article = "an" if known[0] in "HOS" else "a"
    found = f"it begins with {start[:12]!r}" if known == "unknown" else f"it is {article} {known}"
    return DataError(
        f"{shown}: not an image; {found}. Expected a {_KINDS} image. Replace the file or remove it."
    )


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
    lowest: float | None = None  # sample value of a greyscale image of more than 8 bits
    highest: float | None = None


def look_at(source: Path | bytes, name: str) -> tuple[Facts | None, str | None]:
    """Returns the metadata of an image file, and the reason if the image cannot be used.

    The image is decoded completely, as in `open_image`, because a truncated JPEG passes every
    check of its header.

    Args:
        source: The file, or its bytes.
        name: Name of the image in the reason.

    Returns:
        The metadata, or None if the header cannot be read; and the reason why the image cannot be
        used, or None if it can.
    """
    shown, facts = printable(name), None
    try:
        with _content(source, shown) as file, _named(shown, file):
            image = _opened(file, shown)
            facts = _facts(image, file)
            GATE.charge(*image.size)
            image.load()
            facts = replace(facts, orientation=orientation(image))
            if (samples := sample_range(image)) is not None:
                facts = replace(facts, lowest=samples[0], highest=samples[1])
            flat_and_upright(image, 3, shown, None)
    except DataError as error:
        return facts, str(error)
    return facts, None


def upright(
    image: Image.Image,
    *,
    name: str = "the image",
    channels: int = 3,
    levels: Levels | None = None,
) -> Image.Image:
    """Returns a decoded image rotated by its EXIF orientation, in mode RGB or L.

    The argument is not modified.

    Args:
        image: The decoded image.
        name: Name of the image in error messages.
        channels: 3 for RGB, 1 for L.
        levels: As in `open_image`.

    Raises:
        DataError: The range of the sample values is unknown.
    """
    large = image.width * image.height > DIRECT_PIXELS
    own = image.copy() if large else image  # a large one is closed
    return flat_and_upright(own, channels, printable(name), levels)


def _source_name(source: Path | bytes, name: str | None) -> str:
    """What messages call an image: its own name, else its path."""
    return printable(name or (source if isinstance(source, Path) else "the bytes given"))


def _refuse_large(image: Image.Image, shown: str) -> None:
    """Raises DataError for a large image before any pixel is decoded, by the header's size."""
    kind, most = str(image.format), PIXELS_OF.get(str(image.format), IMAGE_PIXELS)
    if image.info.get("progressive") and most > PROGRESSIVE_PIXELS:
        kind, most = f"progressive {kind}", PROGRESSIVE_PIXELS
    if image.width * image.height > most:
        what = "image" if most == IMAGE_PIXELS else f"{kind} image"
        raise _too_large(shown, f"{image.width} x {image.height} pixels", most, what)


def _too_large(shown: str, found: str, most: int = IMAGE_PIXELS, what: str = "image") -> DataError:
    article, remedy = ("an", "") if what == "image" else ("a", ", save it as baseline JPEG or PNG,")
    return DataError(
        f"{shown}: too large ({found}). Expected {article} {what} of at most "
        f"{most // 1_000_000} megapixels. Downscale the image{remedy} or remove it."
    )


def _upright_size(image: Image.Image) -> tuple[int, int]:
    """Returns width and height after EXIF rotation, from the header alone."""
    across, down = image.size
    return (down, across) if orientation(image) in (5, 6, 7, 8) else (across, down)


def _facts(image: Image.Image, file: IO[bytes]) -> Facts:
    return Facts(
        width=image.width,
        height=image.height,
        mode=image.mode,
        format=str(image.format),
        bits=_bits(image, file),
        frames=getattr(image, "n_frames", 1),
        orientation=1,
    )


def _bits(image: Image.Image, file: IO[bytes]) -> int:
    """Returns the bits per sample. Pillow's mode does not tell: 16-bit RGB has mode RGB too."""
    if image.format == "PNG":
        place = file.tell()
        file.seek(_PNG_BITS)
        bits = file.read(1)
        file.seek(place)
        return bits[0]
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    deep = 32 if image.mode in ("I", "F") else 16 if image.mode.startswith("I;16") else 8
    return int(tags.get(TIFF_BITS, (deep,))[0])
