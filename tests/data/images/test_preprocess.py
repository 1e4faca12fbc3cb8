from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from forebear.data.images.preprocess import (
    centre_box,
    covered,
    fit,
    normalise,
    padded_box,
    preprocess,
)
from forebear.data.images.tf1_resize import resize_bilinear
from forebear.errors import DataError
from forebear.tables import preprocessing as published
from forebear.tables.preprocessing import Preprocessing
from tests.data.making import SHARED, noise

HERE = Path(__file__).parents[1] / "goldens"
# The published rules, at the sizes that the goldens were made at.
TORCH = replace(published.TORCHVISION, size=56, side=64)
SLIM_VGG = replace(published.SLIM_VGG, size=48, side=56)
SLIM_INCEPTION = replace(published.SLIM_INCEPTION, size=48, side=48)
KERAS = {
    "caffe": published.KERAS_CAFFE,
    "tf": published.KERAS_TF,
    "torch": published.KERAS_TORCH,
}
TORCHVISION = {
    "torchvision_resize64_crop56": TORCH,
    "torchvision_resize58_crop56": replace(TORCH, side=58),
    "timm_56_bicubic_0.95": replace(published.TIMM, size=56, side=58),
    "timm_56_bilinear_0.875": TORCH,
    "timm_56_bicubic_1": replace(published.TIMM, size=56, side=56),
}
# A unit or two in the last place of a normalised value; a wrong pixel is a thousand times more.
ROUNDING = 1e-6


def goldens(folder: Path, name: str) -> dict[str, NDArray[Any]]:
    if not (folder / name).exists():
        pytest.skip(f"no {name} next to the repository")
    with np.load(folder / name) as arrays:
        return dict(arrays)


@pytest.fixture(params=["here", "shared"])
def folder(request: pytest.FixtureRequest) -> Path:
    """The committed selection, and all sizes where they lie next to the repository."""
    return HERE if request.param == "here" else SHARED / "goldens"


def test_slim_and_keras_give_tensorflows_numbers(folder: Path) -> None:
    arrays = goldens(folder, "preprocess_tf.npz")
    compared = 0
    for key, expected in arrays.items():
        rule, _, size = key.partition("::")
        image = arrays[f"image::{size}"].astype(np.uint8)
        if rule == "slim_vgg_side56_crop48_trunc":
            np.testing.assert_array_equal(
                preprocess(image, SLIM_VGG).transpose(1, 2, 0), expected, key
            )
        elif rule == "slim_inception_48":
            found = preprocess(image, SLIM_INCEPTION).transpose(1, 2, 0)
            np.testing.assert_allclose(found, expected, rtol=0, atol=ROUNDING, err_msg=key)
        elif rule.startswith("keras_"):
            found = normalise(image, KERAS[rule.removeprefix("keras_")]).transpose(1, 2, 0)
            found = found[: len(expected)]
            np.testing.assert_allclose(found, expected, rtol=0, atol=ROUNDING, err_msg=key)
        elif rule == "slim_vgg_resized_side56_trunc":
            height, width, _ = expected.shape
            np.testing.assert_array_equal(resize_bilinear(image, height, width), expected, key)
        else:
            continue
        compared += 1
    assert compared >= 5


def test_torchvision_and_timm_give_their_numbers(folder: Path) -> None:
    images = goldens(folder, "preprocess_tf.npz")
    arrays = goldens(folder, "preprocess_torch.npz")
    for key, expected in arrays.items():
        rule, _, size = key.partition("::")
        image = Image.fromarray(images[f"image::{size}"].astype(np.uint8))
        found = preprocess(image, TORCHVISION[rule])
        np.testing.assert_allclose(found, expected, rtol=0, atol=ROUNDING, err_msg=key)
    assert len(arrays) >= 5


def test_enlarging_as_tensorflow_1_starts_at_the_corner() -> None:
    pixels = np.array([[[0], [100]]], dtype=np.uint8)
    assert resize_bilinear(pixels, 1, 4).ravel().tolist() == [0, 50, 100, 100]


def test_what_is_smaller_than_the_crop_lies_in_the_middle_of_black() -> None:
    rule = replace(TORCH, size=7, side=4)
    found = fit(np.full((4, 8, 3), 255, dtype=np.uint8), rule)  # torchvision: pad, then crop
    assert found.shape == (7, 7, 3)
    assert np.flatnonzero(found.any(axis=(1, 2))).tolist() == [1, 2, 3, 4]
    assert found[1:5].min() == 255


def test_arrays_and_images_go_the_same_way() -> None:
    image = noise(0, 90, 70)
    np.testing.assert_array_equal(preprocess(image, TORCH), preprocess(np.asarray(image), TORCH))


def test_grey_rules_take_colour_and_colour_rules_grey() -> None:
    grey = replace(TORCH, order="L", mean=(0.5,), std=(0.5,))
    assert preprocess(noise(1, 90, 70), grey).shape == (1, 56, 56)
    found = fit(np.full((60, 60, 1), 7, dtype=np.uint8), TORCH)
    assert found.shape == (56, 56, 3)
    assert found.min() == found.max() == 7


def test_bgr_is_rgb_backwards() -> None:
    plain = replace(TORCH, scale=1.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    pixels = np.asarray(noise(2))
    found = normalise(pixels, replace(plain, order="BGR"))
    np.testing.assert_array_equal(found, normalise(pixels, plain)[::-1])


@pytest.mark.parametrize("size", [(1, 1), (1, 30_000), (30_000, 1), (3, 2000)])
@pytest.mark.parametrize("rule", [TORCH, SLIM_VGG, SLIM_INCEPTION], ids=["torch", "vgg", "tf"])
def test_thin_and_tiny_images_come_out_square(size: tuple[int, int], rule: Preprocessing) -> None:
    found = fit(Image.new("RGB", size, (9, 9, 9)), rule)
    assert found.shape == (rule.size, rule.size, 3)
    np.testing.assert_array_equal(found, 9)


def test_a_rule_without_resize_refuses_other_sizes() -> None:
    rule = replace(TORCH, resize="none", size=8, side=8)
    assert fit(noise(3, 8, 8), rule).shape == (8, 8, 3)
    with pytest.raises(DataError, match="image of 12 x 8 pixels: expected 8 x 8"):
        fit(noise(3, 12, 8), rule)


def test_arrays_of_another_type_are_refused() -> None:
    with pytest.raises(TypeError, match=r"float64 \[4, 4, 3\]\. Expected uint8"):
        fit(np.zeros((4, 4, 3)), TORCH)  # type: ignore[arg-type]


WIDE = replace(published.TORCHVISION, size=20, side=20, width=40)


@pytest.mark.parametrize("interpolation", ["bilinear", "tf-bilinear"])
@pytest.mark.parametrize(("width", "height"), [(100, 30), (60, 60), (31, 77), (40, 20), (7, 3)])
def test_a_rectangle_is_cut_from_an_image_that_just_covers_it(
    width: int, height: int, interpolation: Any
) -> None:
    """A ramp from left to right and one from top to bottom: the whole of one axis is kept."""
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    ramps = np.stack([across, down, down], 2).astype(np.uint8)
    rule = replace(WIDE, interpolation=interpolation)
    pixels = fit(ramps, rule).astype(np.float32)
    assert pixels.shape == (20, 40, 3)
    spans = [float(np.ptp(pixels[:, :, 0])) / 255, float(np.ptp(pixels[:, :, 1])) / 255]
    kept = [min(1.0, 2 * height / width), min(1.0, width / height / 2)]
    edges = 3 / 20 + 2 / min(width, height)  # the outermost pixels are means of their neighbours
    assert spans == pytest.approx(kept, abs=edges)


def test_a_square_and_the_box_of_a_rectangle_are_where_they_were() -> None:
    tall = replace(WIDE, size=40, side=50, width=20)
    assert covered(tall) == (50, 25)
    left, top, right, bottom = centre_box(250, 500, tall)
    assert (left, top, right, bottom) == (20, 50, 220, 450)
    assert covered(published.TORCHVISION) == (256, 256)


@pytest.mark.parametrize(
    ("width", "height", "box"),
    [
        (100, 50, (0, 0, 40, 20)),
        (100, 25, (0, 5, 40, 15)),
        (50, 50, (10, 0, 30, 20)),
        (30, 40, (12, 0, 27, 20)),
        (1000, 1, (0, 9, 40, 10)),  # one pixel at least
        (20, 43, (15, 0, 24, 20)),  # 9.3 pixels wide; the odd pixel is on the right
    ],
)
def test_padding_keeps_the_whole_image_in_the_middle_of_black(
    width: int, height: int, box: tuple[int, int, int, int]
) -> None:
    rule = replace(WIDE, resize="pad")
    assert padded_box(width, height, rule) == box
    pixels = fit(np.full((height, width, 3), 200, np.uint8), rule)
    inside = np.zeros((20, 40), np.bool_)
    inside[box[1] : box[3], box[0] : box[2]] = True
    assert pixels.shape == (20, 40, 3)
    assert (pixels[inside] == 200).all()
    assert not pixels[~inside].any()


def test_squashing_ignores_the_aspect_ratio() -> None:
    image = np.zeros((60, 30, 3), np.uint8)
    image[:30] = 200
    pixels = fit(image, replace(WIDE, resize="square"))
    assert pixels.shape == (20, 40, 3)
    assert (pixels[:9] == 200).all()
    assert not pixels[11:].any()


def test_a_rule_that_does_not_resize_names_width_and_height() -> None:
    with pytest.raises(DataError, match=r"image of 20 x 40 pixels: expected 40 x 20, because"):
        fit(np.zeros((40, 20, 3), np.uint8), replace(WIDE, resize="none"))
