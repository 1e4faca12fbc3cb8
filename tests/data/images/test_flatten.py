"""Bands give the same pixels as the whole image, and levels choose the range of deeper samples."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from forebear.data.dataset import EncodedImages
from forebear.data.images import large
from forebear.data.images.decode import open_image, open_part
from forebear.data.images.flatten import sample_range
from forebear.data.sample_levels import find_levels
from forebear.errors import DataError
from tests.data.making import encoded, noise


def modes() -> dict[str, bytes]:
    """An encoded image of each mode, 50 x 37 pixels."""
    rgb = noise(1, 50, 37)
    grey = rgb.convert("L")
    alpha, la = rgb.copy(), grey.copy()
    alpha.putalpha(grey)
    la.putalpha(noise(2, 50, 37).convert("L"))
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 200)
    tags = {340: 0.0, 341: 300.0}
    floats = Image.fromarray(np.asarray(grey).astype(np.float32))
    return {
        "RGB": encoded(rgb, "PNG"),
        "RGBA": encoded(alpha, "PNG"),
        "LA": encoded(la, "PNG"),
        "L": encoded(grey, "PNG"),
        "1": encoded(rgb.convert("1"), "PNG"),
        "P": encoded(rgb.convert("P"), "PNG"),
        "P transparent": encoded(rgb.convert("P"), "PNG", transparency=3),
        "RGB transparent": encoded(rgb, "PNG", transparency=rgb.getpixel((3, 4))),
        "CMYK": encoded(rgb.convert("CMYK"), "TIFF"),
        "16 bits": encoded(deep, "PNG"),
        "16 bits TIFF": encoded(deep, "TIFF"),
        "floats": encoded(floats, "TIFF", tiffinfo=_tags(tags)),
    }


def _tags(values: dict[int, float]) -> Any:
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    found = ImageFileDirectory_v2()
    for tag, value in values.items():
        found.tagtype[tag] = 12  # double
        found[tag] = value
    return found


# Pillow turns TIFF images itself.
@pytest.mark.parametrize(
    ("mode", "turn"),
    [
        (mode, turn)
        for mode in modes()
        for turn in ((1,) if mode in ("CMYK", "floats", "16 bits TIFF") else range(1, 9))
    ],
)
def test_large_images_have_the_pixels_of_small_ones(
    mode: str, turn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = modes()[mode]
    if turn > 1:
        with Image.open(BytesIO(content)) as image:
            exif = Image.Exif()
            exif[274] = turn
            kept = {"transparency": image.info["transparency"]} if "transparent" in mode else {}
            content = encoded(image, "PNG", exif=exif, **kept)
    for channels in (3, 1):
        whole = open_image(content, channels=channels)
        with monkeypatch.context() as patch:
            patch.setattr(large, "DIRECT_PIXELS", 0)
            patch.setattr(large, "_BAND", 7 * 50)  # bands of seven rows; the last has two
            banded = open_image(content, channels=channels)
        assert banded.mode == whole.mode
        np.testing.assert_array_equal(np.asarray(banded), np.asarray(whole))


def deep(low: int, high: int) -> bytes:
    values = np.linspace(low, high, 64).astype(np.uint16).reshape(8, 8)
    return encoded(Image.fromarray(values), "PNG")


def test_levels_choose_what_becomes_black_and_white() -> None:
    content = deep(0, 4095)
    assert np.asarray(open_image(content, channels=1)).max() == 16  # of the whole range
    own = np.asarray(open_image(content, channels=1, levels=(0, 4095)))
    assert (own.min(), own.max(), len(np.unique(own))) == (0, 255, 64)
    clipped = np.asarray(open_image(content, channels=1, levels=(1000, 2000)))
    assert (clipped.min(), clipped.max()) == (0, 255)
    part = open_part(content, lambda width, height: (0, 0, width, height), (8, 8), levels=(0, 4095))
    np.testing.assert_array_equal(np.asarray(part)[:, :, 0], own)


def test_the_range_of_samples_is_found() -> None:
    with Image.open(BytesIO(deep(5, 4000))) as image:
        assert sample_range(image) == (5.0, 4000.0)
    assert sample_range(noise(1)) is None


def test_the_range_of_a_set_is_that_of_all_its_images() -> None:
    contents: list[str | bytes] = [deep(5, 100), deep(50, 4000), encoded(noise(0), "PNG")]
    images = EncodedImages(contents, ["a", "b", "c"], np.zeros(3, np.int64))
    assert find_levels("auto", images) == (5.0, 4000.0)
    assert find_levels("full", images) is None
    assert find_levels("0:4095", images) == (0.0, 4095.0)
    with pytest.raises(DataError, match="no training image has more than 8 bits"):
        find_levels("auto", images.take(np.array([2])))
    with pytest.raises(DataError, match="all samples of the training images are 7"):
        find_levels("auto", EncodedImages([deep(7, 7)], ["a"], np.zeros(1, np.int64)))


@pytest.mark.parametrize("text", ["most", "5", "9:1", "nan:1", "0:inf", "a:b"])
def test_other_ranges_are_refused(text: str) -> None:
    images = EncodedImages([deep(0, 1)], ["a"], np.zeros(1, np.int64))
    with pytest.raises(ValueError, match="expected full, auto, or two rising numbers LOW:HIGH"):
        find_levels(text, images)
