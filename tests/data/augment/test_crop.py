from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from forebear.data.augment import crop
from forebear.data.augment.config import Border
from forebear.data.augment.counter_rng import CounterRNG

SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)


def draws(count: int, epoch: int = 0) -> CounterRNG:
    return CounterRNG(0, epoch, np.arange(count))


def noise(*shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, np.uint8))


def halves(count: int) -> NDArray[np.bool_]:
    odd: NDArray[np.bool_] = np.arange(count) % 2 == 1
    return odd


# Mirrors


def test_half_of_the_images_are_mirrored_by_chance_anew_in_each_epoch() -> None:
    first, second = (crop.mirrored("random", draws(20_000, epoch)) for epoch in (0, 1))
    assert abs(first.mean() - 0.5) < 0.02
    assert abs((first == second).mean() - 0.5) < 0.02


def test_alternate_mirrors_show_the_other_side_in_each_epoch() -> None:
    views = [crop.mirrored("alternate", draws(20_000, epoch)) for epoch in range(4)]
    assert abs(views[0].mean() - 0.5) < 0.02
    for before, after in pairwise(views):
        np.testing.assert_array_equal(before, ~after)


def test_no_mirrors_are_none() -> None:
    assert not crop.mirrored("none", draws(9)).any()


# Shifts


@pytest.mark.parametrize(
    ("side", "window", "shift", "low", "high"),
    [
        (32, 32, 4, -4, 4),
        (40, 32, 0, 0, 8),
        (40, 32, 4, 0, 8),
        (40, 32, 6, -2, 10),
        (41, 32, 0, 0, 9),
        (28, 32, 0, -2, -2),
        (27, 32, 1, -4, -1),
    ],
)
def test_windows_reach_all_of_the_image_and_the_shift(
    side: int, window: int, shift: int, low: int, high: int
) -> None:
    starts = crop.shifted(side, window, shift, np.linspace(0, 1, 1000, endpoint=False))
    assert (starts.min(), starts.max()) == (low, high)
    shares = np.bincount(starts - low) / 1000
    np.testing.assert_allclose(shares, 1 / (high - low + 1), atol=0.002)


@pytest.mark.parametrize("border", ["black", "reflect"])
@pytest.mark.parametrize("channels", [1, 3])
def test_cuts_are_slices_of_the_padded_image(border: Border, channels: int) -> None:
    pixels = noise(50, 10, 12, channels)
    starts = np.random.default_rng(1).integers(-4, 7, (50, 2))
    mirror = halves(50)
    seen = crop.cut(pixels, 8, starts, mirror, border=border)
    mode = "constant" if border == "black" else "reflect"
    padded = np.pad(pixels.numpy(), ((0, 0), (5, 5), (5, 5), (0, 0)), mode=mode)  # type: ignore[call-overload]
    for row, (top, left) in enumerate(starts + 5):
        expected = padded[row, top : top + 8, left : left + 8]
        np.testing.assert_array_equal(seen[row], expected[:, ::-1] if mirror[row] else expected)


def test_cuts_within_the_images_are_the_same_cut_out_one_by_one() -> None:
    pixels, starts, mirror = noise(9, 10, 12, 3), np.full((9, 2), 2), halves(9)
    inside = crop.cut(pixels, 8, starts, mirror, border="black")
    starts = np.concatenate([starts, [[-1, 0]]])  # one over the border: all by an index
    pixels, mirror = torch.cat([pixels, pixels[:1]]), halves(10)
    torch.testing.assert_close(crop.cut(pixels, 8, starts, mirror, border="black")[:9], inside)
    torch.testing.assert_close(inside[0], pixels[0, 2:10, 2:10])
    torch.testing.assert_close(inside[1], pixels[1, 2:10, 2:10].flip(1))


def test_a_border_wider_than_the_image_is_reflected_again() -> None:
    pixels = torch.arange(3, dtype=torch.uint8)[None, :, None, None].expand(1, 3, 3, 1)
    seen = crop.cut(pixels, 9, np.array([[-5, 0]]), np.zeros(1, np.bool_), border="reflect")
    assert seen[0, :, 0, 0].tolist() == [1, 0, 1, 2, 1, 0, 1, 2, 1]


# Random parts


def parts(
    width: int, height: int, count: int = 20_000, scale: tuple[float, float] = SCALE
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Left and top, width and height, [count, 2] both."""
    boxes = crop.random_part(width, height, draws(count), scale=scale, ratio=RATIO)
    return boxes[:, :2], boxes[:, 2:] - boxes[:, :2]


@pytest.mark.parametrize(("width", "height"), [(500, 375), (375, 500), (160, 160), (9, 9), (1, 1)])
def test_parts_lie_within_the_image(width: int, height: int) -> None:
    start, sides = parts(width, height)
    assert (start >= 0).all()
    assert (sides >= 1).all()
    assert (start + sides <= [width, height]).all()


def test_areas_are_uniform_and_ratios_log_uniform_where_every_attempt_fits() -> None:
    _, sides = parts(4000, 4000, scale=(0.1, 0.5))
    areas = sides.prod(1) / 4000**2
    ratios = np.log(sides[:, 0] / sides[:, 1]) / np.log(4 / 3)
    for values, low, high in ((areas, 0.1, 0.5), (ratios, -1, 1)):
        assert abs(values.mean() - (low + high) / 2) < 0.02 * (high - low)
        found = np.histogram(values, 10, (low, high))[0] / len(values)
        np.testing.assert_allclose(found, 0.1, atol=0.012)


def test_places_are_uniform_over_what_is_left() -> None:
    start, sides = parts(300, 200, scale=(0.1, 0.3))
    shares = (start + 0.5) / (np.array([300, 200]) - sides + 1)
    np.testing.assert_allclose(np.histogram(shares, 10, (0, 1))[0] / shares.size, 0.1, atol=0.01)
    assert np.abs(np.asarray(np.corrcoef(shares.T)) - np.eye(2)).max() < 0.03


def test_the_mean_share_of_the_area_is_that_of_torchvisions_loop() -> None:
    """The loop as published: ten attempts, each refused where it does not fit."""
    random = np.random.default_rng(0)

    def attempt() -> float:
        for _ in range(10):
            area = random.uniform(*SCALE) * 500 * 375
            ratio = math.exp(random.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
            width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if width <= 500 and height <= 375:
                return width / 500 * height / 375
        return 1.0

    expected = np.mean([attempt() for _ in range(20_000)])
    _, sides = parts(500, 375)
    assert abs((sides.prod(1) / (500 * 375)).mean() - expected) < 0.01


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [(1000, 10, [493, 0, 506, 10]), (10, 1000, [0, 493, 10, 506]), (30, 30, [0, 0, 30, 30])],
)
def test_what_never_fits_gives_the_largest_middle_part(
    width: int, height: int, expected: list[int]
) -> None:
    boxes = crop.random_part(width, height, draws(5), scale=(1.5, 2.0), ratio=RATIO)
    assert boxes.tolist() == [expected] * 5


def test_an_image_has_the_same_part_alone_and_in_a_batch_of_mixed_sizes() -> None:
    sizes = np.array([[500, 375], [300, 300], [100, 900]])
    widths, heights = sizes.T
    every = crop.random_part(widths, heights, draws(3), scale=SCALE, ratio=RATIO)
    for number, (width, height) in enumerate(sizes.tolist()):
        alone = CounterRNG(0, 0, np.array([number]))
        one = crop.random_part(width, height, alone, scale=SCALE, ratio=RATIO)
        np.testing.assert_array_equal(one[0], every[number])


# Resizing


def pillows(pixels: Tensor, boxes: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    squares = []
    for picture, box in zip(pixels.numpy(), boxes.tolist(), strict=True):
        image = Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture)
        part = image.crop(tuple(box)).resize((size, size), Image.Resampling.BILINEAR)
        squares.append(np.asarray(part).reshape(size, size, -1))
    return np.stack(squares).astype(np.int64)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [16, 48, 90])
def test_parts_are_resized_as_pillow_does(channels: int, size: int) -> None:
    count = 40
    pixels = noise(count, 60, 80, channels)
    boxes = crop.random_part(80, 60, draws(count), scale=(0.02, 1.0), ratio=(0.3, 3.0))
    straight = np.zeros(count, np.bool_)
    expected = pillows(pixels, boxes, size)
    ours = crop.resized(pixels, boxes, straight, size=size)
    assert ours.dtype == torch.uint8
    assert np.abs(ours.numpy() - expected).max() <= 1  # 0 where torch has its AVX2 kernel
    products = crop.resized_at_once(pixels, boxes, straight, size=size, dtype=torch.float32)
    assert np.abs(products.numpy() - expected).max() <= 1
    assert products.is_contiguous()


def test_half_precision_is_one_off_at_most() -> None:
    pixels, boxes = noise(8, 40, 40, 3), np.tile([3, 5, 38, 33], (8, 1))
    half = crop.resized_at_once(pixels, boxes, halves(8), size=24, dtype=torch.float16)
    whole = crop.resized(pixels, boxes, halves(8), size=24)
    assert int((half.int() - whole.int()).abs().max()) <= 1


def test_resized_parts_are_mirrored_on_the_way() -> None:
    pixels, boxes = noise(6, 40, 40, 3), np.tile([3, 5, 38, 33], (6, 1))
    straight = crop.resized(pixels, boxes, np.zeros(6, np.bool_), size=24)
    turned = crop.resized(pixels, boxes, np.ones(6, np.bool_), size=24)
    torch.testing.assert_close(turned, straight.flip(2))
    at_once = crop.resized_at_once(
        pixels, boxes, np.ones(6, np.bool_), size=24, dtype=torch.float32
    )
    assert int((at_once.int() - turned.int()).abs().max()) <= 1


# What is blanked


def test_cutout_is_a_square_around_any_pixel_clipped_at_the_border() -> None:
    boxes = crop.cutout_box(32, 12, draws(50_000))
    sides = boxes[:, 2:] - boxes[:, :2]
    assert boxes.min() == 0
    assert boxes.max() == 32
    # A centre at c keeps min(c + 6, 32) - max(c - 6, 0) pixels of a side.
    expected = np.mean([min(c + 6, 32) - max(c - 6, 0) for c in range(32)])
    np.testing.assert_allclose(sides.mean(0), expected, atol=0.05)
    assert sides.max() == 12
    assert sides.min() == 6


def test_a_share_of_the_images_is_erased_within_the_published_ranges() -> None:
    boxes = crop.erased_box(200, draws(20_000), 0.25)
    sides = boxes[:, 2:] - boxes[:, :2]
    erased = sides.all(1)
    assert abs(erased.mean() - 0.25) < 0.02
    assert not boxes[~erased].any()
    width, height = sides[erased].T
    areas, ratios = width * height / 200**2, height / width
    assert 0.019 < areas.min() < 0.03
    assert 0.3 < areas.max() < 0.335
    assert 0.28 < ratios.min() < 0.35
    assert 3.0 < ratios.max() < 3.5
    assert boxes.max() <= 200


@pytest.mark.parametrize("start", [(2, 3), (-4, 5)])
def test_a_cut_can_be_a_rectangle(start: tuple[int, int]) -> None:
    pixels = torch.arange(2 * 12 * 20 * 3).reshape(2, 12, 20, 3).to(torch.uint8)
    starts = np.tile(np.array(start), (2, 1))
    cut = crop.cut(pixels, (6, 9), starts, np.array([False, True]), border="black")
    padded = F.pad(pixels.permute(0, 3, 1, 2), (8, 8, 8, 8)).permute(0, 2, 3, 1)
    top, left = start[0] + 8, start[1] + 8
    wanted = padded[:, top : top + 6, left : left + 9]
    assert torch.equal(cut[0], wanted[0])
    assert torch.equal(cut[1], wanted[1].flip(1))


def test_a_resized_part_can_be_a_rectangle() -> None:
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 30, 40, 3), np.uint8))
    boxes, straight = np.tile([5, 2, 37, 26], (3, 1)), np.zeros(3, np.bool_)
    ours = crop.resized(pixels, boxes, straight, size=(8, 20))
    pillow = Image.fromarray(pixels[0].numpy()).crop((5, 2, 37, 26))
    wanted = np.asarray(pillow.resize((20, 8), Image.Resampling.BILINEAR), np.int16)
    assert np.abs(ours[0].numpy() - wanted).max() <= 1
    whole = crop.resized_at_once(pixels, boxes, straight, size=(8, 20), dtype=torch.float32)
    assert whole.shape == ours.shape
    assert (whole.short() - ours.short()).abs().max() <= 1


def test_blanked_boxes_lie_within_a_rectangle() -> None:
    many = draws(2000)
    for boxes in (crop.cutout_box((10, 40), 8, many), crop.erased_box((10, 40), many, 1.0)):
        assert boxes.min() >= 0
        assert boxes[:, [0, 2]].max() > 30
        assert boxes[:, [0, 2]].max() <= 40
        assert boxes[:, [1, 3]].max() <= 10
