"""Preprocesses a decoded image to a network input, following a `Preprocessing` record.

`fit` does the geometry (resize and crop), `normalise` the arithmetic on the values, and
`preprocess` both. Two families of resizing are reproduced:

* Pillow's filters, as torchvision and timm call them. The longer side is int(side * long / short),
  the crop offset is rounded half to even, and an image smaller than the crop is padded with black.
  For an input that is no square, the image is resized to just cover a box of the input's ratio, as
  timm's ResizeKeepRatio does.
* "tf-bilinear", as in TF-Slim. The sides are truncated after a float32 product, as in
  vgg_preprocessing.py of 2016 and 2017 (later copies round, which can give one more row). The crop
  offset is rounded down.

"pad" resizes the image to the largest size that fits inside the input, its sides rounded half to
even and at least 1 pixel, and puts it in the middle, with offsets rounded down. The rest is black,
as in torchvision's Pad and timm's CenterCropOrPad by default: unlike the mean colour, black does
not depend on the mean, which is measured on the padded images of some data sets.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from forebear.data.images.bands import COMMON, AnyImage, by_channel, from_array, open_any_image
from forebear.data.images.decode import Box, upright
from forebear.data.images.flatten import Levels
from forebear.data.images.tf1_resize import resize_bilinear
from forebear.errors import DataError
from forebear.limits import IMAGE_PIXELS
from forebear.tables.preprocessing import Preprocessing

# A limit of forebear's own, far beyond photographs. A 1 x 30000 image whose shorter side is resized
# to 256 pixels would take gigabytes.
LONGEST = 32  # times the shorter side; a longer image is cropped to its middle first

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def preprocess(image: Image.Image | NDArray[np.uint8], rule: Preprocessing) -> NDArray[np.float32]:
    """Returns the network input [C, H, W] in the rule's channel order.

    Args:
        image: A PIL image, or pixels [H, W, C].
        rule: The preprocessing to apply.
    """
    return normalise(fit(image, rule), rule)


def to_image(source: object, channels: int, levels: Levels | None = None) -> AnyImage:
    """Returns an image from a path, encoded bytes, a PIL image, or an array [H, W, C].

    A tensor is converted to an array. Pass the images of a batch one at a time. The result is a PIL
    image, or an array [H, W, C] if the channels are neither 1 nor 3. `levels` are those of
    `open_any_image`, which also says what files may be.

    Raises:
        DataError: The image cannot be read, or it has other channels.
        TypeError: The type, dtype or shape is not supported.
    """
    if isinstance(source, str):
        source = Path(source)
    if isinstance(source, Path | bytes):
        return open_any_image(source, channels=channels, levels=levels)
    if isinstance(source, Image.Image) and channels in COMMON:
        return upright(source, channels=channels, levels=levels)
    array = np.asarray(source)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.dtype not in (np.uint8, np.uint16) or array.ndim != 3 or 0 in array.shape:
        raise TypeError(
            f"image of type {type(source).__name__}, {array.dtype} {list(array.shape)}: expected "
            "a path, bytes, a PIL image, or uint8 or uint16 [H, W, C]. Convert it; pass a batch as "
            "a list."
        )
    return from_array(array, channels, levels)


def fit(
    image: Image.Image | NDArray[np.uint8], rule: Preprocessing
) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Returns the resized and cropped image [H, W, C] in 0..255: RGB, greyscale or any channels.

    The dtype is uint8, or float32 for "tf-bilinear", which does not round interpolated values.

    Raises:
        DataError: The rule does not resize, and the image has another size.
    """
    if rule.order == "any":
        return _fit_channels(image, rule)
    image = _image(image, "L" if rule.order == "L" else "RGB")
    if rule.resize == "none":
        return _unchanged(image, rule)
    if rule.resize == "shorter":
        image = _middle_of_strip(image, max(covered(rule)))
        pixels = _resize(image, *_shorter_to(image.size, rule), rule)
        return _centre_crop(pixels, rule)
    height, width = rule.shape
    if rule.resize == "pad":
        left, top, right, bottom = padded_box(*image.size, rule)
        pixels = _resize(image, right - left, bottom - top, rule)
        black = np.zeros((height, width, pixels.shape[2]), pixels.dtype)
        black[top:bottom, left:right] = pixels
        return black
    if rule.resize == "central":
        image = image.crop(_central_box(image.size, rule.central))
    return _resize(image, width, height, rule)


def _fit_channels(
    image: Image.Image | NDArray[np.uint8], rule: Preprocessing
) -> NDArray[np.uint8] | NDArray[np.float32]:
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != rule.channels:
        raise TypeError(
            f"image: {pixels.dtype} {list(pixels.shape)}. Expected uint8 [H, W, {rule.channels}]. "
            "Pass an array of this form."
        )
    one = replace(rule, order="L", mean=(0.0,), std=(1.0,))
    return by_channel(pixels, lambda plane: fit(plane, one))


def covered(rule: Preprocessing) -> tuple[int, int]:
    """Returns height and width of the box that "shorter" covers with the resized image.

    Its height is the rule's `side`. A square input has a square box.
    """
    return rule.side, round(rule.side * rule.shape[1] / rule.size)


def padded_box(width: int, height: int, rule: Preprocessing) -> tuple[int, int, int, int]:
    """Returns where "pad" puts an image in the input: left, top, right, bottom in pixels.

    Args:
        width: Of the image.
        height: Of the image.
        rule: Its input size matters.
    """
    down, across = rule.shape
    scale = min(across / width, down / height)
    wide, high = (
        min(most, max(1, round(side * scale))) for most, side in ((across, width), (down, height))
    )
    left, top = (across - wide) // 2, (down - high) // 2
    return left, top, left + wide, top + high


def centre_box(width: int, height: int, rule: Preprocessing) -> Box:
    """Returns the part of an image that `fit` keeps: left, top, right, bottom in pixels.

    This holds only for rules that resize the shorter side to at least the crop size.
    """
    wide, high = _shorter_to((width, height), rule)
    tall, broad = rule.shape
    left, top = _offset(wide - broad, rule), _offset(high - tall, rule)
    across, down = width / wide, height / high
    return left * across, top * down, (left + broad) * across, (top + tall) * down


def normalise(
    pixels: NDArray[np.uint8] | NDArray[np.float32], rule: Preprocessing
) -> NDArray[np.float32]:
    """Returns float32 [C, H, W] in the rule's channel order.

    Args:
        pixels: RGB or greyscale [H, W, C] in 0..255.
        rule: Its channel order, scale, mean and std are applied.
    """
    if rule.order == "BGR":
        pixels = pixels[:, :, ::-1]
    mean, std = (np.asarray(values, np.float32) for values in (rule.mean, rule.std))
    values = (pixels.astype(np.float32) * np.float32(rule.scale) - mean) / std
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def _image(image: Image.Image | NDArray[np.uint8], mode: str) -> Image.Image:
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3):
            raise TypeError(
                f"image: {image.dtype} {list(image.shape)}. Expected uint8 [H, W, C] with 1 "
                "or 3 channels. Convert it, or pass a PIL image."
            )
        image = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    return image if image.mode == mode else image.convert(mode)


def _unchanged(image: Image.Image, rule: Preprocessing) -> NDArray[np.uint8]:
    height, width = rule.shape
    if image.size != (width, height):
        raise DataError(
            f"image of {image.width} x {image.height} pixels: expected {width} x "
            f"{height}, because this preprocessing does not resize. Resize the image first."
        )
    return _array(image)


def _middle_of_strip(image: Image.Image, side: int) -> Image.Image:
    ratio = max(2.0, min(LONGEST, IMAGE_PIXELS / side**2))  # the resized image must be allowed too
    most = int(ratio * min(image.size))
    if max(image.size) <= most:
        return image
    left, top = (max(0, side - most) // 2 for side in image.size)
    return image.crop((left, top, left + min(image.width, most), top + min(image.height, most)))


def _shorter_to(size: tuple[int, int], rule: Preprocessing) -> tuple[int, int]:
    """Returns width and height of the image resized to just cover the box of `covered`."""
    width, height = size
    down, across = covered(rule)
    if rule.interpolation == "tf-bilinear":
        box, least = (across, down), rule.shape[::-1]
        scale = max(np.float32(to) / np.float32(side) for to, side in zip(box, size, strict=True))
        # The truncation can make the shorter side a pixel too short; it stays at least the crop's.
        wide, high = (
            max(crop, int(np.float32(side) * scale)) for crop, side in zip(least, size, strict=True)
        )
        return wide, high
    if width * down <= height * across:  # the width is the side that decides
        return across, max(down, int(across * height / width))
    return max(across, int(down * width / height)), down


def _central_box(size: tuple[int, int], fraction: float) -> tuple[int, int, int, int]:
    """Returns the box of tf.image.central_crop, whose truncated margins can enlarge the box."""
    left, top = (int((side - side * fraction) / 2) for side in size)
    return left, top, size[0] - left, size[1] - top


def _resize(
    image: Image.Image, width: int, height: int, rule: Preprocessing
) -> NDArray[np.uint8] | NDArray[np.float32]:
    if rule.interpolation == "tf-bilinear":
        return resize_bilinear(_array(image), height, width)
    return _array(image.resize((width, height), _FILTERS[rule.interpolation]))


def _array(image: Image.Image) -> NDArray[np.uint8]:
    pixels = np.asarray(image)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def _centre_crop(
    pixels: NDArray[np.uint8] | NDArray[np.float32], rule: Preprocessing
) -> NDArray[np.uint8] | NDArray[np.float32]:
    missing = [max(0, to - side) for to, side in zip(rule.shape, pixels.shape[:2], strict=True)]
    if any(missing):
        (above, left), (height, width) = (n // 2 for n in missing), pixels.shape[:2]
        black = np.zeros((height + missing[0], width + missing[1], pixels.shape[2]), pixels.dtype)
        black[above : above + height, left : left + width] = pixels
        return _centre_crop(black, rule)
    high, wide = rule.shape
    top, left = _offset(pixels.shape[0] - high, rule), _offset(pixels.shape[1] - wide, rule)
    return pixels[top : top + high, left : left + wide]


def _offset(spare: int, rule: Preprocessing) -> int:
    """Returns the offset of a centre crop that is `spare` pixels shorter than the side."""
    return spare // 2 if rule.interpolation == "tf-bilinear" else round(spare / 2)
