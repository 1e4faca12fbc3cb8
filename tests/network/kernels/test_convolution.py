"""Convolutions by products give what torch's own give."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from forebear.network.kernels import convolution
from forebear.network.kernels.conv_geometry import Window
from forebear.network.kernels.convolution import fork, helps
from tests.network.kernels.making import convolve, distance, draw, multiplies_fp32


@pytest.fixture(autouse=True)
def _first(monkeypatch: pytest.MonkeyPatch) -> None:
    """In fp32 the first way is taken, whatever is faster on this machine."""
    monkeypatch.setattr(convolution, "fastest", lambda ways, *_: ways[0])


# side, kernel, stride, padding before, side given out, groups, channels in and out
WINDOWS = {
    "1x1": (9, 1, 1, 0, 9, 1, 16, 24),
    "1x1 on a small map": (4, 1, 1, 0, 4, 1, 16, 24),
    "1x1, stride 2": (9, 1, 2, 0, 5, 1, 16, 24),
    "3x3 on 4x4": (4, 3, 1, 1, 4, 1, 16, 24),
    "3x3 on 7x7, wide": (7, 3, 1, 1, 7, 1, 256, 256),
    "3x3, stride 2": (8, 3, 2, 1, 4, 1, 16, 24),
    "3x3 on 2x2: all seen": (2, 3, 1, 1, 2, 1, 16, 24),
    "3x3, stride 2, on 2x2": (2, 3, 2, 1, 1, 1, 16, 24),
    "3x3 on one value": (1, 3, 1, 1, 1, 1, 16, 24),
    "5x5 over a whole map": (5, 5, 1, 0, 1, 1, 16, 24),
    "3x3 in groups of 4": (9, 3, 1, 1, 9, 8, 32, 32),
    "3x3 in groups of 4, stride 2": (9, 3, 2, 1, 5, 8, 32, 32),
    "3x3 in groups of 4, of 16 channels": (9, 3, 1, 1, 9, 4, 16, 16),
    "3x3 in groups of 4, no zeros": (17, 3, 1, 0, 15, 16, 64, 64),
    "3x3 in groups of 4, zeros all around": (6, 3, 1, 2, 8, 8, 32, 32),
}


@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_products_give_what_convolutions_give(name: str, dtype: torch.dtype) -> None:
    side, kernel, stride, padding, given, groups, channels_in, channels = WINDOWS[name]
    window = Window(kernel, stride, padding, padding, given, given, groups)
    x = draw(3, channels_in, side, side, dtype=dtype).requires_grad_()
    weight = draw(channels, channels_in // groups, kernel, kernel, seed=1).requires_grad_()
    assert helps(window, x, weight)
    dy = draw(3, channels, given, given, seed=2, dtype=dtype)
    y = convolve(window, x, weight)
    found = torch.autograd.grad(y, (x, weight), dy)
    exact_x, exact_weight = x.double(), weight.to(dtype).double()
    exact = F.conv2d(exact_x, exact_weight, None, stride, padding, 1, groups)
    wanted = torch.autograd.grad(exact, (exact_x, exact_weight), dy.double())
    close = 3e-5 if dtype == torch.float32 else 1e-2  # bf16 keeps 8 bits
    assert y.dtype == dtype
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert found[1].dtype == torch.float32
    assert distance(y, exact) < close
    assert distance(found[0], wanted[0]) < close
    assert distance(found[1], wanted[1]) < close


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_a_fork_adds_both_gradients_in_one_map(dtype: torch.dtype) -> None:
    x = draw(3, 16, 9, 9, dtype=dtype).requires_grad_()
    weight = draw(24, 16, 1, 1, seed=1).requires_grad_()
    dmap, dy = draw(3, 16, 9, 9, seed=2, dtype=dtype), draw(3, 24, 5, 5, seed=3, dtype=dtype)
    same, y = fork(Window(1, 2, 0, 0, 5, 5), x, weight)
    assert torch.equal(same, x)
    found = torch.autograd.grad((same.neg(), y), (x, weight), (dmap, dy))
    exact_x, exact_weight = x.double(), weight.to(dtype).double()
    exact = F.conv2d(exact_x, exact_weight, None, 2)
    given = (dmap.double(), dy.double())
    wanted = torch.autograd.grad((exact_x.neg(), exact), (exact_x, exact_weight), given)
    close = 1e-5 if dtype == torch.float32 else 1e-2
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert distance(y, exact) < close
    assert distance(found[0], wanted[0]) < close
    assert distance(found[1], wanted[1]) < close


def test_large_maps_of_odd_channels_are_left_to_torch() -> None:
    x, weight = draw(1, 3, 32, 32), draw(16, 3, 3, 3)
    assert not helps(Window(3, 1, 1, 1, 32, 32), x, weight)
    assert not helps(Window(1, 1, 0, 0, 32, 32), x, draw(16, 3, 1, 1))


@multiplies_fp32
def test_in_fp32_winograd_comes_first_and_can_be_left_out() -> None:
    window, x, weight = Window(3, 1, 1, 1, 8, 8), draw(2, 32, 8, 8), draw(32, 32, 3, 3)
    ways = [way.__name__ for way in convolution._ways(window, x, weight, winograd=True)]
    assert ways == ["Winograd", "_Columns"]
    ways = [way.__name__ for way in convolution._ways(window, x, weight, winograd=False)]
    assert ways == ["_Columns"]


def test_the_limits_are_in_order() -> None:
    assert convolution.COLUMNS <= convolution.WIDE_COLUMNS <= convolution.POINTWISE_WEIGHT
