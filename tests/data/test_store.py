from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from forebear.data.decode import open_picture
from forebear.data.pictures import ArrayPictures, EncodedPictures
from forebear.data.store import Store
from forebear.errors import DataError
from forebear.tables.preprocessing import TORCHVISION, Preprocessing

from .making import encoded, noise


def square(side: int) -> Preprocessing:
    return replace(TORCHVISION, size=side, side=side)


def files(folder: Path, count: int) -> EncodedPictures:
    paths = []
    for seed in range(count):
        paths.append(str(folder / f"{seed}.png"))
        noise(seed, 30 + seed % 7, 20).save(paths[-1])
    return EncodedPictures(paths, paths, np.zeros(count, dtype=np.int64))


def arrays(side: int, channels: int) -> ArrayPictures:
    shape = (5, side, side, channels)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return ArrayPictures(pixels, np.arange(5), "test")


def test_pictures_come_in_the_order_asked_for(tmp_path: Path) -> None:
    pictures = files(tmp_path, 9)
    found = Store(pictures, square(10))[[4, 0, 4]]
    assert (str(found.dtype), found.shape) == ("uint8", (3, 10, 10, 3))
    for place, index in enumerate([4, 0, 4]):
        whole = pictures.picture(index)
        half = whole.resize((whole.width // 2, 10), Image.Resampling.BILINEAR)
        left = round((half.width - 10) / 2)
        np.testing.assert_array_equal(found[place], np.asarray(half)[:, left : left + 10])


def test_filled_and_unfilled_stores_give_the_same(tmp_path: Path) -> None:
    pictures = files(tmp_path, 150)
    filled = Store(pictures, square(8))
    small = Store(pictures, square(8), memory=150 * 8 * 8 * 3 - 1)
    assert (filled.fits, small.fits) == (True, False)
    steps: list[tuple[int, int]] = []
    filled.fill(lambda done, total: steps.append((done, total)))
    assert steps[-1] == (150, 150)
    assert steps == sorted(set(steps))
    small.fill(lambda done, total: pytest.fail("filled beyond its memory"))
    for path in pictures.encoded[1:]:
        Path(str(path)).unlink()
    everything = filled[range(150)]
    np.testing.assert_array_equal(everything[:1], small[[0]])
    with pytest.raises(DataError, match=r"149\.png: no such file"):
        small[[149]]


def test_arrays_of_the_right_side_are_untouched() -> None:
    pictures = arrays(8, 3)
    store = Store(pictures, square(8), memory=0)
    found = store[[3, 1]]
    np.testing.assert_array_equal(found, pictures.pixels[[3, 1]])
    found[:] = 0
    assert pictures.pixels[[3, 1]].any()  # a copy was given


def test_small_grey_arrays_are_enlarged() -> None:
    pictures = arrays(8, 1)
    store = Store(pictures, replace(square(32), order="L", mean=(0.0,), std=(1.0,)))
    store.fill()
    expected = pictures.picture(2).resize((32, 32), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(store[[2]][0, :, :, 0], np.asarray(expected))


def test_jpegs_are_decoded_at_a_reduced_scale_when_that_is_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int | None] = []

    def watched(source: bytes, *, name: str, at_least: int | None) -> Image.Image:
        asked.append(at_least)
        return open_picture(source, name=name, at_least=at_least)

    monkeypatch.setattr("forebear.data.pictures.open_picture", watched)
    gradient = Image.linear_gradient("L").resize((800, 600)).convert("RGB")
    pictures = EncodedPictures([encoded(gradient, "JPEG")], ["x"], np.zeros(1, dtype=np.int64))
    found = Store(pictures, square(100), reduced=True)[[0]][0].astype(int)
    assert asked == [100]
    exact = np.asarray(gradient.resize((133, 100), Image.Resampling.BILINEAR))[:, 16:116]
    assert np.abs(found - exact).max() <= 4


def test_a_picture_that_cannot_be_decoded_is_named_and_never_replaced(tmp_path: Path) -> None:
    pictures = files(tmp_path, 5)
    (tmp_path / "3.png").write_bytes(b"words")
    store = Store(pictures, square(8))
    with pytest.raises(DataError, match=r"3\.png: not a picture"):
        store.fill()
    with pytest.raises(DataError, match=r"3\.png: not a picture"):
        store[[0, 3]]
    assert store[[0, 4]].shape == (2, 8, 8, 3)
