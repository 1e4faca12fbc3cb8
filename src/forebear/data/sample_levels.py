"""The range of sample values that a data set of images with more than 8 bits uses."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from forebear.data.dataset import ArrayImages, Images
from forebear.data.images.bands import look_at_any_image
from forebear.data.images.flatten import Levels
from forebear.data.images.large import GATE
from forebear.errors import DataError
from forebear.hardware import processor


def find_levels(text: str, images: Images) -> Levels | None:
    """Returns the sample values that become 0 and 255; None for the whole range of the files.

    Args:
        text: "full", "auto" for the range that the images use, or LOW:HIGH.
        images: The training images, all of which are decoded for "auto".

    Raises:
        ValueError: `text` is none of these.
        DataError: No image has more than 8 bits, or all samples are equal.
    """
    if text == "full":
        return None
    if text != "auto":
        return _parsed(text)
    if isinstance(images, ArrayImages):
        deep = images.pixels.dtype == np.uint16
        found = [(float(images.pixels.min()), float(images.pixels.max()))] if deep else []
        return _spanned(found)
    with ThreadPoolExecutor(processor().cores, "levels") as threads:
        found = [one for one in threads.map(lambda i: _used(images, i), range(len(images))) if one]
    return _spanned(found)


def _spanned(found: list[Levels]) -> Levels:
    """Returns the lowest and the highest value of all images."""
    if not found:
        raise DataError(
            "sample_range=auto: no training image has more than 8 bits in one channel. Expected "
            "greyscale PNG or TIFF images of 16 or 32 bits, or arrays of 16 bits. Leave the range "
            "at full."
        )
    low, high = min(low for low, _ in found), max(high for _, high in found)
    if not low < high:
        raise DataError(
            f"sample_range=auto: all samples of the training images are {low:g}. Expected images "
            "with contrast. Check the images."
        )
    return low, high


def _used(images: Images, index: int) -> Levels | None:
    source = images.source(index)
    if source is None:
        return None
    with GATE.scope():
        facts, _ = look_at_any_image(source, images.name(index))
    if facts is None or facts.lowest is None or facts.highest is None:
        return None
    return facts.lowest, facts.highest


def _parsed(text: str) -> Levels:
    low, colon, high = text.partition(":")
    try:
        levels = float(low), float(high)
    except ValueError:
        levels = 0.0, 0.0
    if not colon or not levels[0] < levels[1] or not all(abs(one) < 1e12 for one in levels):
        raise ValueError(
            f"sample_range={text!r}: expected full, auto, or two rising numbers LOW:HIGH. Pass "
            "one of these, as in 0:4095."
        )
    return levels
