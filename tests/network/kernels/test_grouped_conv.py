"""Grouped convolutions are exact on whole numbers."""

from __future__ import annotations

import pytest

from forebear.network.kernels import grouped_conv
from forebear.network.kernels.conv_geometry import Window
from tests.network.kernels.making import (
    assert_exact,
    draw,
    groups_bf16,
    multiplies_fp32,
    random_case,
)


@groups_bf16
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("zeros", [(0, 0), (1, 1), (2, 2), (0, 1)], ids=str)
@pytest.mark.parametrize("size", [4, 8, 16, 32])
def test_groups_give_whole_numbers_exactly(size: int, zeros: tuple[int, int], stride: int) -> None:
    before, behind = zeros  # TF-Slim's strided ones have them behind alone
    height, width, channels = 6, 20, 64  # more than one part of a row
    down, across = ((side + before + behind - 3) // stride + 1 for side in (height, width))
    window = Window(3, stride, before, before, down, across, channels // size)
    x = draw(3, channels, height, width).clamp(-1, 1).round().bfloat16().requires_grad_()
    weight = draw(channels, size, 3, 3, seed=1).clamp(-1, 1).round().requires_grad_()
    dy = draw(3, channels, window.height, window.width, seed=2).clamp(-1, 1).round().bfloat16()
    assert grouped_conv.fits(window, x, weight)
    assert_exact(window, x, weight, dy)


def check_fp32(seed: int, size: int, stride: int) -> None:
    case = random_case(seed, size=size, stride=stride)
    assert grouped_conv.fits(case.window, case.x, case.weight)
    assert max(case.errors(case.by(grouped_conv.Groups))) < 1e-6


@multiplies_fp32
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", grouped_conv.SIZES)
@pytest.mark.parametrize("seed", range(0, 12, 3))
def test_fp32_groups_are_close_to_float64(seed: int, size: int, stride: int) -> None:
    check_fp32(seed, size, stride)


@multiplies_fp32
@pytest.mark.slow
def test_fp32_groups_are_close_to_float64_in_500_shapes() -> None:
    for seed in range(1000, 1063):
        for size in grouped_conv.SIZES:
            for stride in (1, 2):
                check_fp32(3 * seed + size + stride, size, stride)
