"""From a decoded picture to a network's input, as a `Preprocessing` record says.

`fit` is the geometry (what is kept, and at which size), `normalise` the arithmetic on values, and
`preprocess` one after the other. Two families of resizing are reproduced:

* Pillow's filters as torchvision and timm call them: longer side int(side * long / short), crop
  offset rounded half to even, black around a picture that is smaller than the crop;
* "tf-bilinear", TF-Slim's: sides truncated after a float32 product, as in vgg_preprocessing.py of
  2016 and 2017 (later copies round, which can give one row more), crop offset rounded down.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from forebear.data.images.decode import Box, open_picture, upright
from forebear.data.images.tf1_resize import resize_bilinear
from forebear.errors import DataError
from forebear.tables.preprocessing import Preprocessing

# Our own limit, far beyond photographs: a 1 x 30000 line enlarged to 256 pixels takes gigabytes.
LONGEST = 32  # times the shorter side; of a longer strip only the middle is looked at

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def preprocess(
    picture: Image.Image | NDArray[np.uint8], rule: Preprocessing
) -> NDArray[np.float32]:
    """The network's input [C, size, size] in the rule's channel order, from [H, W, C] pixels."""
    return normalise(fit(picture, rule), rule)


def to_picture(source: object, channels: int) -> Image.Image:
    """A picture from whatever holds one: path, file's bytes, PIL image, or array [H, W, C].

    Tensors are taken through their array; a batch is a list of pictures.

    Raises:
        DataError: the picture cannot be read.
        TypeError: nothing that holds a picture.
    """
    if isinstance(source, str):
        source = Path(source)
    if isinstance(source, Path | bytes):
        return open_picture(source, channels=channels)
    if isinstance(source, Image.Image):
        return upright(source, channels=channels)
    array = np.asarray(source)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise TypeError(
            f"picture of type {type(source).__name__}, {array.dtype} {list(array.shape)}: expected "
            "a path, bytes, a PIL image, or uint8 [H, W, C]. Convert it; pass a batch as a list."
        )
    image = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
    return upright(image, channels=channels)


def fit(
    picture: Image.Image | NDArray[np.uint8], rule: Preprocessing
) -> NDArray[np.uint8] | NDArray[np.float32]:
    """The square that the network looks at: [size, size, C] in 0..255, RGB or one grey channel.

    uint8, but float32 after "tf-bilinear", which does not round between pixels.

    Raises:
        DataError: A rule that does not resize met a picture of another size.
    """
    image = _image(picture, "L" if rule.order == "L" else "RGB")
    if rule.resize == "none":
        return _unchanged(image, rule)
    if rule.resize == "shorter":
        image = _middle_of_strip(image)
        pixels = _resize(image, *_shorter_to(image.size, rule), rule)
        return _centre_crop(pixels, rule)
    if rule.resize == "central":
        image = image.crop(_central_box(image.size, rule.central))
    return _resize(image, rule.size, rule.size, rule)


def centre_box(width: int, height: int, rule: Preprocessing) -> Box:
    """The part of a picture that `fit` keeps: left, top, right, bottom, in its pixels.

    Only for rules that resize the shorter side to at least the size of the crop.
    """
    wide, high = _shorter_to((width, height), rule)
    left, top = _offset(wide - rule.size, rule), _offset(high - rule.size, rule)
    across, down = width / wide, height / high
    return left * across, top * down, (left + rule.size) * across, (top + rule.size) * down


def normalise(
    pixels: NDArray[np.uint8] | NDArray[np.float32], rule: Preprocessing
) -> NDArray[np.float32]:
    """float32 [C, H, W] in the rule's channel order, from RGB or grey [H, W, C] in 0..255."""
    if rule.order == "BGR":
        pixels = pixels[:, :, ::-1]
    mean, std = (np.asarray(values, np.float32) for values in (rule.mean, rule.std))
    values = (pixels.astype(np.float32) * np.float32(rule.scale) - mean) / std
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def _image(picture: Image.Image | NDArray[np.uint8], mode: str) -> Image.Image:
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] not in (1, 3):
            raise TypeError(
                f"picture: {picture.dtype} {list(picture.shape)}. Expected uint8 [H, W, C] with 1 "
                "or 3 channels. Convert it, or pass a PIL image."
            )
        picture = Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture)
    return picture if picture.mode == mode else picture.convert(mode)


def _unchanged(image: Image.Image, rule: Preprocessing) -> NDArray[np.uint8]:
    if image.size != (rule.size, rule.size):
        raise DataError(
            f"picture of {image.width} x {image.height} pixels: expected {rule.size} x "
            f"{rule.size}, as this preprocessing does not resize. Resize the picture first."
        )
    return _array(image)


def _middle_of_strip(image: Image.Image) -> Image.Image:
    most = LONGEST * min(image.size)
    if max(image.size) <= most:
        return image
    left, top = (max(0, side - most) // 2 for side in image.size)
    return image.crop((left, top, left + min(image.width, most), top + min(image.height, most)))


def _shorter_to(size: tuple[int, int], rule: Preprocessing) -> tuple[int, int]:
    """Width and height once the shorter side is the rule's."""
    short, long = min(size), max(size)
    if rule.interpolation == "tf-bilinear":
        scale = np.float32(rule.side) / np.float32(short)
        # The truncation can lose a pixel of the shorter side too; never more than the crop has.
        width, height = (max(rule.size, int(np.float32(side) * scale)) for side in size)
        return width, height
    other = int(rule.side * long / short)
    return (rule.side, other) if size[0] == short else (other, rule.side)


def _central_box(size: tuple[int, int], share: float) -> tuple[int, int, int, int]:
    """tf.image.central_crop: the margins are truncated, so that a box can be a pixel larger."""
    left, top = (int((side - side * share) / 2) for side in size)
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
    missing = [max(0, rule.size - side) for side in pixels.shape[:2]]
    if any(missing):
        (above, left), (height, width) = (n // 2 for n in missing), pixels.shape[:2]
        black = np.zeros((height + missing[0], width + missing[1], pixels.shape[2]), pixels.dtype)
        black[above : above + height, left : left + width] = pixels
        return _centre_crop(black, rule)
    spare = [side - rule.size for side in pixels.shape[:2]]
    top, left = (_offset(n, rule) for n in spare)
    return pixels[top : top + rule.size, left : left + rule.size]


def _offset(spare: int, rule: Preprocessing) -> int:
    """Where the middle begins of a side that has `spare` pixels too many."""
    return spare // 2 if rule.interpolation == "tf-bilinear" else round(spare / 2)
