"""What is read of each image: hashes, features and logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from forebear.data.dataset import ArrayImages
from forebear.data.images.bands import as_image
from forebear.errors import WeightsError
from forebear.tasks.faults.observe import all_images, observe, perceptual_hash
from tests.data.making import noise
from tests.tasks.faults import making

imagehash = pytest.importorskip("imagehash")


def bits(first: Image.Image, second: Image.Image) -> list[int]:
    """Differences of the coarse and of the fine hash."""
    counts = np.bitwise_count(perceptual_hash(first) ^ perceptual_hash(second))
    return [int(counts[0]), int(counts[1:].sum())]


def test_the_hash_is_that_of_imagehash_in_64_and_256_bits() -> None:
    image = noise(0, 90, 70)
    words = perceptual_hash(image)
    assert words.dtype == np.uint64
    assert words.shape == (5,)
    coarse, fine = imagehash.phash(image).hash, imagehash.phash(image, hash_size=16).hash
    assert words[:1].tobytes() == np.packbits(coarse).tobytes()
    assert words[1:].tobytes() == np.packbits(fine).tobytes()


def test_a_large_image_has_nearly_the_hash_of_its_small_version() -> None:
    small = noise(1, 16, 16)
    large = small.resize((1200, 1000), Image.Resampling.BICUBIC)
    coarse, fine = bits(large, small.resize((120, 100), Image.Resampling.BICUBIC))
    assert coarse <= 4
    assert fine <= 16
    assert min(bits(large, noise(2, 160, 160))) > 10


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (5, 3)])
def test_tiny_and_long_images_have_a_hash(size: tuple[int, int]) -> None:
    assert perceptual_hash(noise(3, *size)).shape == (5,)


def test_each_row_belongs_to_its_image() -> None:
    net = making.network()
    data = making.dataset(making.rows(30), making.rows(2, first=30))
    places = np.array([1, 40, 70, 95])
    counted: list[int] = []
    found = observe(net, data, places, counted.append)
    assert found.places.tolist() == places.tolist()
    assert sum(counted) == 4
    assert found.end_point == "pool"
    assert found.logits is not None
    for at, place in enumerate(places):
        image = as_image(all_images(data).image(int(place)))
        assert found.hashes.coarse[at] == perceptual_hash(image)[0]
        assert found.hashes.fine[at].tolist() == perceptual_hash(image)[1:].tolist()
        with torch.inference_mode():
            wanted = net.end_points(net.preprocess([image]), ["pool", "logits"])
        np.testing.assert_allclose(found.features[at], wanted["pool"][0].ravel(), 1e-3, 1e-4)
        np.testing.assert_allclose(found.logits[at], wanted["logits"][0], 1e-3, 1e-4)


def test_images_that_cannot_be_read_are_left_out() -> None:
    train = making.rows(2)
    train[3] = ("broken.png", b"words", 1)
    found = observe(making.network(), making.dataset(train, []), np.arange(6))
    assert found.places.tolist() == [0, 1, 2, 4, 5]
    assert len(found.features) == len(found.hashes.fine) == 5
    broken = making.dataset([("broken.png", b"words", 1)], [])
    assert len(observe(making.network(), broken, np.arange(1)).places) == 0


def test_arrays_of_pixels_are_read_too() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1), np.uint8)
    data = making.dataset([], [])
    grey = ArrayImages(pixels, np.zeros(4, np.int64), "x")
    object.__setattr__(data, "train", grey)
    object.__setattr__(data, "val", grey.take(np.array([0])))
    found = observe(making.network(), data, np.arange(5))
    assert found.hashes.coarse[0] == found.hashes.coarse[4]
    np.testing.assert_allclose(found.features[0], found.features[4], 1e-4, 1e-5)


def test_features_that_are_not_finite_are_an_error() -> None:
    net = making.network()
    net.get_parameter("logits.bias").data.fill_(float("nan"))
    data = making.dataset(making.rows(1), [])
    with pytest.raises(WeightsError, match=r"across/0\.png: its features .* are not finite"):
        observe(net, data, np.arange(3))
