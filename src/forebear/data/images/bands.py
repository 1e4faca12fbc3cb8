"""Images with any number of channels, and arrays of 8 or 16 bits.

Pillow has images with 1, 3 and 4 channels of 8 bits. All others are arrays [H, W, C], which
are resized channel by channel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from forebear.data.images.decode import Box, Facts, look_at, open_image, open_raw, resized
from forebear.data.images.flatten import Levels
from forebear.data.images.large import GATE
from forebear.errors import DataError
from forebear.limits import IMAGE_BYTES, IMAGE_PIXELS, MIB
from forebear.text import printable
from forebear.untrusted import read_bytes

COMMON = (1, 3)  # channels that images of mode L and RGB have
WHOLE: Levels = (0.0, 65535.0)  # of 16 bits
AnyImage = Image.Image | NDArray[np.uint8]  # mode L or RGB; or [H, W, C] with other channels
_SAMPLES = 2**20  # that are scaled at a time
_MAGIC = b"\x93NUMPY"


def open_any_image(
    source: Path | bytes, *, name: str | None = None, channels: int, levels: Levels | None = None
) -> AnyImage:
    """Returns an image with a number of channels.

    An image with 1 or 3 channels is what `open_image` returns. With other channels, the file must
    have that number: nothing is blended or converted. A .npy file is an array [H, W] or [H, W, C].

    Args:
        source: A file, or the encoded bytes themselves.
        name: Name of the image in error messages (default: the path of the file).
        channels: Of the result.
        levels: Sample values of a deeper image that become 0 and 255; None: the whole range.

    Raises:
        DataError: The file is not an image, or it has other channels.
    """
    if is_array(source):
        shown = printable(name or (source if isinstance(source, Path) else "the bytes given"))
        return from_array(read_array(source, shown), channels, levels, shown)
    if channels in COMMON:
        return open_image(source, name=name, channels=channels, levels=levels)
    image = open_raw(source, name=name)
    shown = printable(name or (source if isinstance(source, Path) else "the bytes given"))
    pixels = np.asarray(image)
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
    if pixels.shape[2] != channels or pixels.dtype != np.uint8:
        raise _other_channels(shown, f"its mode is {image.mode}", pixels.shape[2], channels)
    return pixels


def from_array(
    array: NDArray[Any], channels: int, levels: Levels | None, shown: str = "the image"
) -> AnyImage:
    """Returns the image of an array [H, W] or [H, W, C] with 8 or 16 bits.

    Raises:
        DataError: It has other channels than `channels`, and is neither grey nor colour.
    """
    pixels = to_bytes(array if array.ndim == 3 else array[:, :, None], levels)
    found = pixels.shape[2]
    if channels not in COMMON:
        if found != channels:
            raise _other_channels(shown, "an array", found, channels)
        return pixels
    if found not in (*COMMON, 4) or (found == 4 and array.dtype != np.uint8):
        raise _other_channels(shown, "an array", found, channels)
    image = Image.fromarray(pixels[:, :, 0] if found == 1 else pixels)
    if found == 4:  # as of a file: blended with white
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("L" if channels == 1 else "RGB")


def to_bytes(pixels: NDArray[Any], levels: Levels | None) -> NDArray[np.uint8]:
    """Returns samples in 0..255: 8 bits as they are, 16 bits scaled by `levels` and rounded.

    Args:
        pixels: uint8 or uint16, of any shape.
        levels: Values that become 0 and 255; None: 0 and 65535. Others are clipped.
    """
    if pixels.dtype == np.uint8:
        return pixels
    low, high = levels or WHOLE
    scaled = np.empty(pixels.shape, np.uint8)
    rows = max(1, _SAMPLES * len(pixels) // pixels.size)  # so that few samples are floats at a time
    for start in range(0, len(pixels), rows):
        part = pixels[start : start + rows].astype(np.float32)
        part = (part - np.float32(low)) * np.float32(255 / (high - low))
        scaled[start : start + rows] = np.rint(part.clip(0, 255))
    return scaled


def is_array(source: Path | bytes) -> bool:
    """Whether an image is a .npy array, by the name of the file or the first bytes."""
    if isinstance(source, bytes):
        return source.startswith(_MAGIC)
    return source.suffix.lower() == ".npy"


def read_array(source: Path | bytes, shown: str) -> NDArray[Any]:
    """Returns the array of a .npy file: uint8 or uint16 [H, W] or [H, W, C]. Nothing is unpickled.

    Raises:
        DataError: The file holds something else, or is too large.
    """
    expected = (
        "Expected a whole .npy file with uint8 or uint16 [H, W] or [H, W, C], at most "
        f"{IMAGE_PIXELS // 1_000_000} megapixels and {IMAGE_BYTES // MIB} MiB. Save it again with "
        "numpy.save."
    )
    try:
        content = source if isinstance(source, bytes) else read_bytes(source, most=IMAGE_BYTES)
        file = BytesIO(content)
        if np.lib.format.read_magic(file) == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        else:
            raise ValueError("it has another version of the format")
        kind = f"{dtype} {list(shape)}"
        if dtype not in (np.uint8, np.uint16) or len(shape) not in (2, 3):
            raise ValueError(f"it is {kind}")
        if not 0 < shape[0] * shape[1] <= IMAGE_PIXELS or min(shape) < 1:
            raise ValueError(f"it is {kind}")
        if math.prod(shape) * dtype.itemsize != len(content) - file.tell():
            raise ValueError(f"its length does not fit {kind}")
    except Exception as error:  # numpy raises any kind of exception for broken headers
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(f"{shown}: cannot be read ({printable(why)}). {expected}") from None
    GATE.charge(shape[1], shape[0] * -(-math.prod(shape[2:]) * dtype.itemsize // 4))
    array = np.frombuffer(content, dtype, offset=file.tell())
    return array.reshape(shape, order="F" if fortran else "C")


def look_at_any_image(source: Path | bytes, name: str) -> tuple[Facts | None, str | None]:
    """Returns what `look_at` does, for .npy arrays too, whose mode is "uint16 x CHANNELS".

    Args:
        source: The file, or its bytes.
        name: Name of the image in the reason.
    """
    if not is_array(source):
        return look_at(source, name)
    try:
        array = read_array(source, printable(name))
    except DataError as error:
        return None, str(error)
    height, width, channels = (*array.shape, 1)[:3]
    deep = array.dtype != np.uint8
    facts = Facts(
        width=width,
        height=height,
        mode=f"{array.dtype} x {channels}",
        format="NPY",
        bits=8 * array.dtype.itemsize,
        frames=1,
        orientation=1,
        lowest=float(array.min()) if deep else None,
        highest=float(array.max()) if deep else None,
    )
    return facts, None


def _other_channels(shown: str, what: str, found: int, channels: int) -> DataError:
    """Returns the error for an image whose channels the network cannot take."""
    return DataError(
        f"{shown}: {found} channels ({what}). Expected {channels} channels, as the network takes. "
        f"Pass a .npy array [H, W, {channels}], or an image file with {channels} channels."
    )


def size_of(image: AnyImage) -> tuple[int, int]:
    """Returns width and height in pixels."""
    if isinstance(image, Image.Image):
        return image.size
    return image.shape[1], image.shape[0]


def by_channel(
    image: NDArray[np.uint8], change: Callable[[Image.Image], NDArray[Any]]
) -> NDArray[Any]:
    """Returns what `change` makes of each channel, [H, W, C].

    Args:
        image: [H, W, C].
        change: Takes an image of mode L, and returns [H, W] or [H, W, 1].
    """
    planes = [
        change(Image.fromarray(np.ascontiguousarray(image[:, :, channel])))
        for channel in range(image.shape[2])
    ]
    return np.concatenate([plane.reshape(*plane.shape[:2], 1) for plane in planes], 2)


def part_of(image: AnyImage, box: Box, shape: tuple[int, int]) -> AnyImage:
    """Returns the part of an image inside a box, resized to height x width; see `resized`."""
    if isinstance(image, Image.Image):
        return resized(image, image.size, box, shape)
    return by_channel(image, lambda plane: np.asarray(resized(plane, plane.size, box, shape)))


def visible(pixels: NDArray[Any]) -> NDArray[Any]:
    """Returns channels that can be shown: all of 1 or 3, else the first three, or the first of 2.

    Args:
        pixels: [..., C].
    """
    channels = pixels.shape[-1]
    if channels in COMMON:
        return pixels
    return pixels[..., :3] if channels > 3 else pixels[..., :1]


def as_image(image: AnyImage) -> Image.Image:
    """Returns an image in mode L or RGB to look at; of other channels, the first ones."""
    if isinstance(image, Image.Image):
        return image
    seen = visible(image)
    return Image.fromarray(seen[:, :, 0] if seen.shape[2] == 1 else np.ascontiguousarray(seen))
