from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from forebear.data.augment import randaugment
from forebear.data.augment.counter_rng import CounterRNG

SIDE = 24
FILL = (10.0, 200.0, 77.0)


def pictures(channels: int = 3, count: int = 6) -> Tensor:
    """Smooth, noisy, dark, of one colour: [count, SIDE, SIDE, channels] uint8."""
    random = np.random.default_rng(0)
    across = np.linspace(0, 1, SIDE)[None, :, None, None] * np.linspace(0.2, 1, SIDE)[:, None, None]
    smooth = np.broadcast_to(across, (count, SIDE, SIDE, channels))
    amounts = np.linspace(0, 1, count)[:, None, None, None]
    values = (1 - amounts) * smooth + amounts * random.random((count, SIDE, SIDE, channels))
    values = values * np.linspace(1, 0.4, count)[:, None, None, None] * 255
    values[-1] = 93
    return torch.from_numpy(values.astype(np.uint8))


def pillow(picture: Tensor) -> Image.Image:
    array = picture.numpy()
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


def furthest(ours: Tensor, theirs: list[Image.Image]) -> int:
    arrays = np.stack([np.asarray(image) for image in theirs]).reshape(ours.shape)
    assert ours.dtype == torch.uint8
    return int(np.abs(ours.numpy().astype(int) - arrays).max())


def numbers(*values: float) -> Tensor:
    return torch.tensor(values)[:, None, None, None]


Ours = Callable[[Tensor], Tensor]
Theirs = Callable[[Image.Image], Image.Image]
EXACT: dict[str, tuple[Ours, Theirs]] = {
    "autocontrast": (randaugment.autocontrast, ImageOps.autocontrast),
    "equalize": (randaugment.equalize, ImageOps.equalize),
    "invert": (randaugment.invert, ImageOps.invert),
}
for _bits in range(1, 9):
    EXACT[f"posterize {_bits}"] = (
        lambda pixels, b=_bits: randaugment.posterize(pixels, numbers(b)),  # type: ignore[misc]
        lambda image, b=_bits: ImageOps.posterize(image, b),  # type: ignore[misc]
    )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", EXACT)
def test_what_takes_no_level_is_exactly_pillows(name: str, channels: int) -> None:
    ours, theirs = EXACT[name]
    pixels = pictures(channels)
    assert furthest(ours(pixels), [theirs(pillow(picture)) for picture in pixels]) == 0


@pytest.mark.parametrize("channels", [1, 3])
def test_solarize_is_exactly_pillows(channels: int) -> None:
    thresholds = (0.0, 64.0, 100.0, 127.5, 200.0, 256.0)
    pixels = pictures(channels)
    theirs = [
        ImageOps.solarize(pillow(picture), threshold)  # type: ignore[arg-type]
        for picture, threshold in zip(pixels, thresholds, strict=True)
    ]
    assert furthest(randaugment.solarize(pixels, numbers(*thresholds)), theirs) == 0


def test_solarize_add_lightens_the_dark_half() -> None:
    pixels = torch.tensor([0, 100, 127, 128, 255], dtype=torch.uint8).reshape(1, 1, 5, 1)
    added = randaugment.solarize_add(pixels, numbers(110.0))
    assert added.flatten().tolist() == [110, 210, 237, 128, 255]


ENHANCERS = {
    "color": (randaugment.color, ImageEnhance.Color),
    "contrast": (randaugment.contrast, ImageEnhance.Contrast),
    "brightness": (randaugment.brightness, ImageEnhance.Brightness),
    "sharpness": (randaugment.sharpness, ImageEnhance.Sharpness),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ENHANCERS)
def test_enhancements_are_pillows_within_one(name: str, channels: int) -> None:
    ours, theirs = ENHANCERS[name]
    factors = (0.0, 0.1, 0.55, 1.0, 1.45, 1.9)
    pixels = pictures(channels)
    expected = [
        theirs(pillow(picture)).enhance(factor)
        for picture, factor in zip(pixels, factors, strict=True)
    ]
    assert furthest(ours(pixels, numbers(*factors)), expected) <= 1


def turned(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotations around the centre, from places in the output to places in the input."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.stack([np.stack([cos, -sin], 1), np.stack([sin, cos], 1)], 1)
    centre = np.full(2, SIDE / 2)
    return np.concatenate([turn, (centre - turn @ centre)[..., None]], 2)


def moved(row: int, column: int, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Identities with one entry replaced."""
    matrices = np.tile(np.eye(2, 3), (len(values), 1, 1))
    matrices[:, row, column] = values
    return matrices


MATRICES = {
    "rotation": lambda v: turned(v * 100),
    "shear across": lambda v: moved(0, 1, v),
    "shear down": lambda v: moved(1, 0, v),
    "translation across": lambda v: moved(0, 2, v * 30),
    "translation down": lambda v: moved(1, 2, v * 30),
}


@pytest.mark.parametrize("name", MATRICES)
def test_motions_are_pillows_within_one(name: str) -> None:
    values = np.array([-0.9, -0.3, -0.1, 0.1, 0.37, 0.5])
    pixels = pictures()
    matrices = MATRICES[name](values)
    fill = torch.tensor(FILL)
    seen = randaugment.affine(pixels, torch.from_numpy(matrices).float(), fill)
    colour = tuple(int(value) for value in FILL)
    expected = []
    for picture, value, matrix in zip(pixels, values, matrices, strict=True):
        image = pillow(picture)
        if name == "rotation":
            expected.append(image.rotate(value * 100, Image.Resampling.BILINEAR, fillcolor=colour))
        else:
            expected.append(
                image.transform(
                    image.size,
                    Image.Transform.AFFINE,
                    tuple(matrix.flatten()),
                    Image.Resampling.BILINEAR,
                    fillcolor=colour,
                )
            )
    assert furthest(seen, expected) <= 1


def policies(pixels: Tensor, draws: CounterRNG) -> list[Tensor]:
    wide = randaugment.trivialaugment(pixels, draws)
    two = randaugment.randaugment(pixels, draws, operations=2, magnitude=9, spread=0.5, fill=FILL)
    return [wide, two]


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_becomes_the_same_in_whatever_company(channels: int) -> None:
    count = 200
    pixels = pictures(channels).repeat(-(-count // 6), 1, 1, 1)[:count]
    draws = CounterRNG(0, 3, np.arange(count))
    some = np.random.default_rng(1).permutation(count)[:37]
    together = policies(pixels, draws)
    apart = policies(pixels[some], CounterRNG(0, 3, some))
    for every, few in zip(together, apart, strict=True):
        assert every.dtype == torch.uint8
        assert every.shape == pixels.shape
        torch.testing.assert_close(few, every[some], rtol=0, atol=0)


def test_one_image_can_be_alone() -> None:
    for seen in policies(pictures()[:1], CounterRNG(0, 0, np.array([5]))):
        assert seen.shape == (1, SIDE, SIDE, 3)


def kept(seen: Tensor, pixels: Tensor) -> float:
    return float((seen == pixels).flatten(1).all(1).float().mean())


def test_one_in_four_goes_untouched_through_two_operations_at_half_chance() -> None:
    count = 4000
    noise = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), np.uint8)
    pixels = torch.from_numpy(np.tile(noise, (count, 1, 1, 1)))
    draws = CounterRNG(0, 0, np.arange(count))
    seen = randaugment.randaugment(pixels, draws, operations=2, magnitude=10, spread=0.0, fill=FILL)
    assert 0.24 < kept(seen, pixels) < 0.32  # autocontrast may leave noise as it is


def test_trivialaugment_leaves_one_image_in_fourteen_and_changes_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[NDArray[np.int64]] = []
    carried_out = randaugment._carried_out

    def spy(pixels: Tensor, operations: object, kinds: NDArray[np.int64], *rest: object) -> Tensor:
        drawn.append(kinds)
        return carried_out(pixels, operations, kinds, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(randaugment, "_carried_out", spy)
    count = 4000
    noise = np.random.default_rng(0).integers(20, 230, (1, 8, 8, 3), np.uint8)
    pixels = torch.from_numpy(np.tile(noise, (count, 1, 1, 1)))
    seen = randaugment.trivialaugment(pixels, CounterRNG(0, 0, np.arange(count)))
    same = (seen == pixels).flatten(1).all(1).numpy()
    identity = drawn[0] < 0
    assert same[identity].all()
    assert identity.mean() == pytest.approx(1 / 14, abs=0.012)
    # Equalize needs 255 pixels to change any, and the least strengths change nothing.
    assert same[~identity].mean() < 0.12


def test_every_operation_has_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[NDArray[np.int64]] = []
    carried_out = randaugment._carried_out

    def spy(pixels: Tensor, operations: object, kinds: NDArray[np.int64], *rest: object) -> Tensor:
        drawn.append(kinds)
        return carried_out(pixels, operations, kinds, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(randaugment, "_carried_out", spy)
    count = 14_000
    pixels = torch.zeros(count, 2, 2, 3, dtype=torch.uint8)
    policies(pixels, CounterRNG(0, 0, np.arange(count)))
    wide, first, second = (np.bincount(kinds + 1) / count for kinds in drawn)
    np.testing.assert_allclose(wide, 1 / 14, atol=0.012)
    for shares in (first, second):
        np.testing.assert_allclose(shares[0], 0.5, atol=0.02)
        np.testing.assert_allclose(shares[1:], 1 / 30, atol=0.008)


def level(share: float, sign: float = 1.0) -> randaugment._Level:
    return randaugment._Level(np.array([share]), np.array([sign]), 100)


def test_severities_are_timms_increasing_ones() -> None:
    names = ["posterize", "solarize", "solarize_add", "color"]
    takes = [operation.takes for operation in randaugment._RANDAUGMENT[3:7]]
    found = {
        name: [float(take(level(share)).flat[0]) for share in (0.0, 0.7, 1.0)]
        for name, take in zip(names, takes, strict=True)
    }
    assert found["posterize"] == [4, 2, 0]
    assert found["solarize"] == [256, 77, 0]
    assert found["solarize_add"] == [0, 77, 110]
    np.testing.assert_allclose(found["color"], [1, 1.63, 1.9])
    assert takes[3](level(1.0, -1.0)).flat[0] == pytest.approx(0.1)
    shear, _, across, _ = (operation.takes for operation in randaugment._RANDAUGMENT[11:])
    assert shear(level(1.0, -1.0))[0, 0, 1] == pytest.approx(-0.3)
    assert across(level(1.0))[0, 0, 2] == pytest.approx(45)


def test_wide_severities_are_torchvisions() -> None:
    posterize, solarize, color = (operation.takes for operation in randaugment._TRIVIALAUGMENT[2:5])
    assert [float(posterize(level(bin / 30)).flat[0]) for bin in (0, 2, 3, 30)] == [8, 8, 7, 2]
    assert float(solarize(level(1 / 30)).flat[0]) == pytest.approx(246.5)
    assert float(color(level(1.0, -1.0)).flat[0]) == pytest.approx(0.01)
    shear, _, across, _ = (operation.takes for operation in randaugment._TRIVIALAUGMENT[9:])
    assert shear(level(1.0))[0, 0, 1] == pytest.approx(0.99)
    assert across(level(0.5))[0, 0, 2] == 16
