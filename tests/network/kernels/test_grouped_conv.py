"""Grouped convolutions are exact on whole numbers."""

from __future__ import annotations

import pytest

from forebear.network.kernels import grouped_conv
from forebear.network.kernels.conv_geometry import Window
from tests.network.kernels.making import assert_exact, draw, multiplies_bf16


@multiplies_bf16
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
