from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from forebear.data.dataset import ArrayImages
from forebear.data.images.bands import (
    as_image,
    from_array,
    open_any_image,
    part_of,
    read_array,
    size_of,
    to_bytes,
    visible,
)
from forebear.data.images.preprocess import fit, normalise, to_image
from forebear.errors import DataError
from forebear.tables.files import preprocessing_from_dict, preprocessing_to_dict
from forebear.tables.preprocessing import Preprocessing


def noise(*shape: int, dtype: Any = np.uint8) -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype)


def npy(array: NDArray[Any]) -> bytes:
    file = BytesIO()
    np.save(file, array)
    return file.getvalue()


RULE = Preprocessing(
    size=6,
    resize="shorter",
    side=7,
    central=1.0,
    interpolation="bilinear",
    order="any",
    scale=1 / 255,
    mean=(0.1, 0.2, 0.3, 0.4, 0.5),
    std=(1.0, 1.0, 0.5, 1.0, 1.0),
)


def test_a_rule_for_any_channels_has_as_many_as_its_mean() -> None:
    assert RULE.channels == 5
    assert preprocessing_from_dict(preprocessing_to_dict(RULE)) == RULE
    data = {**preprocessing_to_dict(RULE), "std": [1.0] * 4}
    with pytest.raises(ValueError, match=r"std=.*Expected a tuple of 5 finite .* each channel"):
        preprocessing_from_dict(data)
    with pytest.raises(ValueError, match=r"mean=.*Expected a tuple of 256 finite numbers"):
        preprocessing_from_dict({**data, "mean": [0.0] * 257, "std": [1.0] * 257})


def test_each_channel_is_fitted_as_a_grey_image_and_normalised_by_its_own_numbers() -> None:
    image = noise(20, 31, 5)
    pixels = fit(image, RULE)
    grey = Preprocessing(
        **{**preprocessing_to_dict(RULE), "order": "L", "mean": (0.0,), "std": (1.0,)}
    )
    for channel in range(5):
        np.testing.assert_array_equal(pixels[:, :, [channel]], fit(image[:, :, [channel]], grey))
    values = normalise(pixels, RULE)
    np.testing.assert_allclose(values[2], (pixels[:, :, 2] / 255 - 0.3) / 0.5, rtol=1e-5)


def test_sixteen_bits_are_scaled_by_the_levels_and_clipped() -> None:
    samples = np.array([0, 100, 150, 200, 65535], np.uint16)
    assert to_bytes(samples, None).tolist() == [0, 0, 1, 1, 255]
    assert to_bytes(samples, (100, 200)).tolist() == [0, 0, 128, 255, 255]
    eight = np.array([0, 255], np.uint8)
    assert to_bytes(eight, (100, 200)) is eight


def test_an_array_file_is_an_image_of_any_channels(tmp_path: Path) -> None:
    five, grey = noise(8, 9, 5), noise(8, 9)
    np.save(tmp_path / "five.npy", np.asfortranarray(five))
    found = open_any_image(tmp_path / "five.npy", channels=5)
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, five)
    assert size_of(found) == (9, 8)
    turned = open_any_image(npy(grey), channels=3)
    assert isinstance(turned, Image.Image)
    assert (turned.mode, turned.size) == ("RGB", (9, 8))
    deep = open_any_image(npy(noise(8, 9, 3, dtype=np.uint16)), channels=1, levels=(0, 1000))
    assert as_image(deep).mode == "L"


def test_a_file_with_the_channels_keeps_them_all(tmp_path: Path) -> None:
    pixels = noise(8, 9, 4)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    found = to_image(tmp_path / "x.png", 4)
    np.testing.assert_array_equal(np.asarray(found), pixels)
    blended = np.asarray(to_image(tmp_path / "x.png", 3), np.int16)
    opaque = pixels[..., 3:] / 255
    wanted = pixels[..., :3] * opaque + 255 * (1 - opaque)
    assert np.abs(blended - wanted).max() <= 1
    np.testing.assert_array_equal(np.asarray(to_image(pixels, 3)), blended)


@pytest.mark.parametrize("kind", ["file", "image", "array"])
def test_a_photograph_for_a_network_of_four_channels_is_one_clear_error(
    kind: str, tmp_path: Path
) -> None:
    image = Image.fromarray(noise(8, 9, 3))
    image.save(tmp_path / "photo.jpg")
    given = {"file": tmp_path / "photo.jpg", "image": image, "array": np.asarray(image)}[kind]
    with pytest.raises(DataError, match=r"3 channels \(.*\)\. Expected 4 channels, as the netw"):
        to_image(given, 4)


def test_an_array_of_four_channels_is_refused_by_a_network_for_photographs() -> None:
    for array in (noise(8, 9, 5), noise(8, 9, 4, dtype=np.uint16)):
        with pytest.raises(DataError, match=r"the image: [45] channels \(an array\)\. Expected 3"):
            from_array(array, 3, None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy(np.zeros((4, 4), np.float32)), r"it is float32 \[4, 4\]"),
        (npy(np.zeros(4, np.uint8)), r"it is uint8 \[4\]"),
        (npy(np.zeros((0, 4), np.uint8)), r"it is uint8 \[0, 4\]"),
        (npy(np.zeros((4, 4), np.uint8))[:-1], r"its length does not fit uint8 \[4, 4\]"),
        (npy(np.zeros((4, 4), np.uint8))[:9], r"cannot be read"),
        (npy(np.array([[None]])), r"it is object \[1, 1\]"),
    ],
)
def test_a_broken_array_is_refused_in_one_line(content: bytes, message: str) -> None:
    with pytest.raises(
        DataError, match=rf"^x\.npy: .*{message}.*Expected a whole \.npy file"
    ) as info:
        read_array(content, "x.npy")
    assert "\n" not in str(info.value)


def test_a_part_of_many_channels_is_resized_by_channel() -> None:
    image = noise(12, 16, 4)
    found = part_of(image, (2, 2, 10, 8), (3, 4))
    assert isinstance(found, np.ndarray)
    whole = part_of(Image.fromarray(image[:, :, 2]), (2, 2, 10, 8), (3, 4))
    np.testing.assert_array_equal(found[:, :, 2], np.asarray(whole))


def test_what_is_shown_are_the_first_channels() -> None:
    assert [visible(noise(2, 3, count)).shape[2] for count in (1, 2, 3, 4, 9)] == [1, 1, 3, 3, 3]
    assert as_image(noise(4, 5, 2)).mode == "L"
    assert as_image(noise(4, 5, 7)).mode == "RGB"


def test_array_images_of_other_channels_than_the_network_are_refused() -> None:
    images = ArrayImages(noise(2, 5, 5, 4), np.zeros(2, np.int64), "set")
    assert images.with_channels(4) is images
    with pytest.raises(DataError, match=r"set: images of 4 channels\. Expected 3, as the network"):
        images.with_channels(3)
