from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from forebear.data.images.preprocess import fit, normalise, preprocess
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
