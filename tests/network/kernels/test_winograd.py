"""3x3 convolutions by fewer multiplications: exact where they can be, and close elsewhere."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from forebear.hardware import FORCE
from forebear.network.accelerate import accelerate
from forebear.network.kernels import grouped_conv, winograd
from forebear.network.kernels.conv_geometry import Window
from tests.network.kernels.making import (
    Case,
    assert_exact,
    convolve,
    draw,
    exactly,
    multiplies_fp32,
    pair,
    random_case,
    winograd_bf16,
)

# images, channels in and out, height, width, rows and columns of zeros before the map
TILED = {
    "even sides": (4, 32, 64, 8, 12, 1, 1),
    "odd sides": (5, 64, 32, 7, 9, 1, 1),
    "an odd number of tiles, in more than one block": (53, 32, 32, 5, 5, 1, 1),
    "wide": (13, 256, 96, 4, 4, 1, 1),
    "no zeros": (6, 32, 32, 9, 8, 0, 0),
    "zeros all around": (6, 32, 32, 6, 5, 2, 2),
    "zeros above alone": (6, 32, 32, 6, 8, 2, 0),
}


def tiled(name: str) -> tuple[Window, Tensor, Tensor, Tensor]:
    """Whole numbers, for which every sum is exact in float32."""
    count, channels_in, channels, height, width, top, left = TILED[name]
    window = Window(3, 1, top, left, height + 2 * top - 2, width + 2 * left - 2)
    x = draw(count, channels_in, height, width).clamp(-1, 1).round()
    weight = draw(channels, channels_in, 3, 3, seed=1).clamp(-1, 1).round() * 4
    dy = draw(count, channels, window.height, window.width, seed=2).clamp(-1, 1).round()
    return window, x.bfloat16().requires_grad_(), weight.requires_grad_(), dy.bfloat16()


@winograd_bf16
@pytest.mark.parametrize("name", TILED)
def test_fewer_multiplications_give_whole_numbers_exactly(name: str) -> None:
    window, x, weight, dy = tiled(name)
    assert winograd.fits(window, x, weight)
    assert_exact(window, x, weight, dy)


@winograd_bf16
def test_fewer_multiplications_lose_a_second_rounding_at_most() -> None:
    window = Window(3, 1, 1, 1, 16, 16)
    x = draw(4, 128, 16, 16).relu().bfloat16().requires_grad_()
    weight = (draw(128, 128, 3, 3, seed=1) / 34).requires_grad_()
    dy = draw(4, 128, 16, 16, seed=2).bfloat16()
    y = convolve(window, x, weight)
    found = (y, *torch.autograd.grad(y, (x, weight), dy))
    for ours, theirs in zip(found, exactly(window, x, weight, dy), strict=True):
        apart = (ours.double() - theirs).norm() / theirs.norm()
        assert apart < 0.005  # 2^-9, the rounding of one number, is 0.002


@winograd_bf16
def test_fewer_multiplications_give_the_same_bits_by_any_number_of_threads() -> None:
    window, x = Window(3, 1, 1, 1, 12, 12), draw(9, 64, 12, 12).bfloat16().requires_grad_()
    weight, dy = draw(96, 64, 3, 3, seed=1).requires_grad_(), draw(9, 96, 12, 12, seed=2).bfloat16()
    results, threads = [], torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            y = convolve(window, x, weight)
            results.append((y, *torch.autograd.grad(y, (x, weight), dy)))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


@winograd_bf16
def test_fewer_multiplications_keep_what_is_not_finite() -> None:
    window, x, weight, _ = tiled("even sides")
    with torch.no_grad():
        x[1, 3, 4, 4] = float("inf")
    y = convolve(window, x, weight)
    assert not y[1].isfinite().all()
    assert y[[0, 2, 3]].isfinite().all()


@winograd_bf16
def test_convolutions_that_do_not_fit_go_another_way() -> None:
    window, x, weight, _ = tiled("even sides")
    assert winograd.fits(window, x, weight)
    assert not winograd.fits(window, x.float(), weight)
    assert not winograd.fits(window, x, weight[:24])
    assert not winograd.fits(window, x[:, :16], weight[:, :16])
    assert not winograd.fits(Window(3, 2, 1, 1, 4, 6), x, weight)
    assert not winograd.fits(Window(3, 1, 1, 1, 8, 12, groups=2), x, weight)


@winograd_bf16
def test_a_processor_without_bf16_has_no_such_convolution(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    window, x, weight, _ = tiled("even sides")
    assert winograd.fits(window, x, weight)
    monkeypatch.setenv(FORCE, "avx512")
    assert not winograd.fits(window, x, weight)
    assert not grouped_conv.has_groups()
    assert "Winograd" not in accelerate(pair("resnet20")[1])


def check_fp32(seed: int) -> None:
    case = random_case(seed)
    ours, theirs = case.errors(case.by(winograd.Winograd)), case.errors(case.by_torch())
    assert max(ours) < 5e-6  # 1e-4 is the bound for tiles of 4x4
    assert max(theirs) < 1e-6


@multiplies_fp32
@pytest.mark.parametrize("seed", range(0, 60, 3))
def test_fp32_is_close_to_float64(seed: int) -> None:
    check_fp32(seed)


@multiplies_fp32
@pytest.mark.slow
def test_fp32_is_close_to_float64_in_500_shapes() -> None:
    for seed in range(1000, 2500, 3):
        check_fp32(seed)


@multiplies_fp32
def test_fp32_gives_the_same_bits_by_any_number_of_threads() -> None:
    results, threads = [], torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(random_case(7).by(winograd.Winograd))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


@multiplies_fp32
def test_fp32_with_many_channels_is_close_to_float64() -> None:
    window = Window(3, 1, 1, 1, 8, 8)
    x, weight = draw(2, 512, 8, 8).requires_grad_(), draw(512, 512, 3, 3, seed=1).requires_grad_()
    dy = draw(2, 512, 8, 8, seed=2)
    errors = Case(window, x, weight, dy).errors(Case(window, x, weight, dy).by(winograd.Winograd))
    assert max(errors) < 1e-5


@multiplies_fp32
def test_fp32_keeps_what_is_not_finite() -> None:
    case = random_case(0)
    with torch.no_grad():
        case.x[-1, 3, 2, 2] = float("inf")
    y = case.by(winograd.Winograd)[0]
    assert not y[-1].isfinite().all()
    assert y[:-1].isfinite().all()


@multiplies_fp32
def test_maps_that_tiles_do_not_fit_go_another_way() -> None:
    weight = draw(32, 32, 3, 3)
    for side, fit in ((1, False), (2, False), (3, True), (4, True), (5, False), (7, True)):
        x = draw(2, 32, side, side)
        assert winograd.fits(Window(3, 1, 1, 1, side, side), x, weight) is fit
    x = draw(2, 32, 8, 8)
    assert not winograd.fits(Window(3, 2, 1, 1, 4, 4), x, weight)
    assert not winograd.fits(Window(3, 1, 1, 1, 8, 8, groups=2), x, weight)
    assert not winograd.fits(Window(3, 1, 1, 1, 8, 8), x, weight[:8])


@multiplies_fp32
def test_a_plain_processor_has_no_such_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    window, x, weight = Window(3, 1, 1, 1, 8, 8), draw(2, 32, 8, 8), draw(32, 32, 3, 3)
    assert winograd.fits(window, x, weight)
    for level in ("generic", "none"):
        monkeypatch.setenv(FORCE, level)
        assert not winograd.fits(window, x, weight)
