"""Each kernel of a training step gives what torch's own operations give."""

from __future__ import annotations

import copy
from typing import get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forebear.hardware import FORCE
from forebear.network.accelerate import accelerate
from forebear.network.kernels import convolution as conv
from forebear.network.kernels import grouped_conv as groups
from forebear.network.kernels import native as library
from forebear.network.kernels import winograd
from forebear.network.kernels.conv_geometry import Window
from forebear.network.kernels.convolution import convolve, fork, helps
from forebear.network.kernels.fused_norm import fits, normed
from forebear.network.kernels.max_pool import fits as pool_fits
from forebear.network.kernels.max_pool import max_pool
from forebear.network.layers import BiasedNorm
from forebear.network.plan.plan import Activation
from tests.network.kernels.making import distance, draw, pair

compiles = pytest.mark.skipif(
    isinstance(library.library(), str), reason="the C functions were not built"
)


multiplies_bf16 = pytest.mark.skipif(
    not winograd.has_winograd(),
    reason="this processor has no AVX-512 for bfloat16",
)


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
    close = 1e-5 if dtype == torch.float32 else 1e-2  # bf16 keeps 8 bits
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


def test_large_maps_are_left_to_torch() -> None:
    x, weight = draw(1, 16, 32, 32), draw(16, 16, 3, 3)
    assert not helps(Window(3, 1, 1, 1, 32, 32), x, weight)
    assert not helps(Window(1, 1, 0, 0, 32, 32), x, draw(16, 16, 1, 1))


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


def exactly(window: Window, x: Tensor, weight: Tensor, dy: Tensor) -> tuple[Tensor, ...]:
    """The convolution and the gradients of its input and weights, in float64."""
    x, weight = (one.detach().double().requires_grad_() for one in (x, weight))
    step, kernel = window.stride, window.kernel
    below = (window.height - 1) * step + kernel - x.shape[2] - window.top
    right = (window.width - 1) * step + kernel - x.shape[3] - window.left
    padded = F.pad(x, (window.left, right, window.top, below))
    y = F.conv2d(padded, weight, None, step, 0, 1, window.groups)
    return (y, *torch.autograd.grad(y, (x, weight), dy.double()))


@multiplies_bf16
@pytest.mark.parametrize("name", TILED)
def test_fewer_multiplications_give_whole_numbers_exactly(name: str) -> None:
    window, x, weight, dy = tiled(name)
    assert winograd.fits(window, x, weight)
    y = convolve(window, x, weight)
    dx, dweight = torch.autograd.grad(y, (x, weight), dy)
    exact, wanted_x, wanted_weight = exactly(window, x, weight, dy)
    assert torch.equal(y, exact.bfloat16())
    assert torch.equal(dx, wanted_x.bfloat16())
    assert torch.equal(dweight, wanted_weight.float())


@multiplies_bf16
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


@multiplies_bf16
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


@multiplies_bf16
def test_fewer_multiplications_keep_what_is_not_finite() -> None:
    window, x, weight, _ = tiled("even sides")
    with torch.no_grad():
        x[1, 3, 4, 4] = float("inf")
    y = convolve(window, x, weight)
    assert not y[1].isfinite().all()
    assert y[[0, 2, 3]].isfinite().all()


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
    assert groups.fits(window, x, weight)
    y = convolve(window, x, weight)
    dx, dweight = torch.autograd.grad(y, (x, weight), dy)
    exact, wanted_x, wanted_weight = exactly(window, x, weight, dy)
    assert torch.equal(y, exact.bfloat16())
    assert torch.equal(dx, wanted_x.bfloat16())
    assert torch.equal(dweight, wanted_weight.float())


@multiplies_bf16
def test_convolutions_that_do_not_fit_go_another_way() -> None:
    window, x, weight, _ = tiled("even sides")
    assert winograd.fits(window, x, weight)
    assert not winograd.fits(window, x.float(), weight)
    assert not winograd.fits(window, x, weight[:24])
    assert not winograd.fits(window, x[:, :16], weight[:, :16])
    assert not winograd.fits(Window(3, 2, 1, 1, 4, 6), x, weight)
    assert not winograd.fits(Window(3, 1, 1, 1, 8, 12, groups=2), x, weight)


@multiplies_bf16
def test_a_processor_without_bf16_has_no_such_convolution(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    window, x, weight, _ = tiled("even sides")
    assert winograd.fits(window, x, weight)
    monkeypatch.setenv(FORCE, "avx512")
    assert not winograd.fits(window, x, weight)
    assert not groups.has_groups()
    assert "Winograd" not in accelerate(pair("resnet20")[1])


def by_torch(
    norm: nn.BatchNorm2d, x: Tensor, added: Tensor | None, activation: Activation
) -> Tensor:
    y: Tensor = norm(x)
    y = y if added is None else added + y
    return {"none": y, "relu": F.relu(y), "hardswish": F.hardswish(y)}[activation]


@compiles
@pytest.mark.parametrize("kind", [nn.BatchNorm2d, BiasedNorm])
@pytest.mark.parametrize(
    ("activation", "adds"),
    [(one, adds) for one in get_args(Activation) for adds in (False, True)][:-1],  # see `fits`
)
@pytest.mark.parametrize("shape", [(4, 16, 5, 7), (2, 48, 1, 3), (3, 272, 33, 2), (5, 64, 40, 40)])
def test_a_fused_norm_gives_what_torch_gives(
    shape: tuple[int, ...], adds: bool, activation: Activation, kind: type[nn.BatchNorm2d]
) -> None:
    channels = shape[1]
    norm = kind(channels, momentum=0.2).double()
    with torch.no_grad():
        norm.weight.copy_(draw(channels, seed=3))
        norm.bias.copy_(draw(channels, seed=4))
    fused = copy.deepcopy(norm).float()
    x = (draw(*shape) * 3 + 50).requires_grad_()
    added = draw(*shape, seed=1).requires_grad_() if adds else None
    dy = draw(*shape, seed=2)
    exact_x, exact_added = (None if t is None else t.detach().double() for t in (x, added))
    inputs = [t for t in (exact_x, exact_added) if t is not None]
    assert exact_x is not None
    for each in inputs:
        each.requires_grad_()
    exact = by_torch(norm, exact_x, exact_added, activation)
    wanted = torch.autograd.grad(exact, (*inputs, norm.weight, norm.bias), dy.double())
    assert fits(fused, x, added, activation)
    y = normed(fused, x, added, activation=activation, biased=kind is BiasedNorm)
    inputs = [t for t in (x, added) if t is not None]
    found = torch.autograd.grad(y, (*inputs, fused.weight, fused.bias), dy)
    assert distance(y, exact) < 1e-5
    for ours, theirs in zip(found, wanted, strict=True):
        assert distance(ours, theirs) < 2e-5
    for name, value in norm.named_buffers():
        assert distance(fused.get_buffer(name), value) < 1e-5, name


@compiles
def test_a_fused_norm_in_bf16_rounds_once() -> None:
    norm = nn.BatchNorm2d(32)
    x, added = draw(4, 32, 9, 9, dtype=torch.bfloat16), draw(4, 32, 9, 9, seed=1).bfloat16()
    y = normed(copy.deepcopy(norm), x, added, activation="relu")
    exact = by_torch(norm.double(), x.double(), added.double(), "relu")
    assert y.dtype == torch.bfloat16
    assert distance(y, exact.bfloat16()) < 1e-9 or distance(y, exact) < 2**-8


@compiles
@pytest.mark.parametrize("threads", [1, 4])
def test_a_fused_norm_repeats_its_bits(threads: int) -> None:
    torch.set_num_threads(threads)  # whose sums must meet in the same order each time
    x, dy = draw(8, 64, 20, 20).requires_grad_(), draw(8, 64, 20, 20, seed=1)

    def run() -> tuple[Tensor, ...]:
        norm = nn.BatchNorm2d(64)
        y = normed(norm, x, activation="relu")
        return (y, *torch.autograd.grad(y, (x, norm.weight, norm.bias), dy))

    first = run()
    for _ in range(20):
        for one, other in zip(first, run(), strict=True):
            assert torch.equal(one, other)


@compiles
def test_a_fused_norm_keeps_what_is_not_a_number() -> None:
    x = draw(2, 16, 3, 3)
    x[0, 3, 1, 1] = float("nan")
    y = normed(nn.BatchNorm2d(16), x, activation="relu")
    assert y[:, 3].isnan().all()
    assert y[:, :3].isfinite().all()


@compiles
def test_maps_that_do_not_fit_go_torchs_way() -> None:
    norm, x = nn.BatchNorm2d(16), draw(2, 16, 3, 3)
    assert fits(norm, x, None, "relu")
    assert not fits(nn.BatchNorm2d(24), draw(2, 24, 3, 3), None, "relu")
    assert not fits(norm, torch.randn(2, 16, 3, 3), None, "relu")  # channels first
    assert not fits(norm, x[:1, :, :1, :1].contiguous(), None, "relu")  # one value a channel
    assert not fits(norm, x.double(), None, "relu")
    assert not fits(norm, x, x.bfloat16(), "relu")
    assert not fits(copy.deepcopy(norm).eval(), x, None, "relu")
    assert not fits(norm, x, x, "hardswish")  # its gradient needs what lies before it
    assert not fits(nn.BatchNorm2d(16, momentum=None), x, None, "relu")


# height, width, kernel, stride, padding left, right, above and below
POOLS = {
    "3x3, stride 2": (9, 7, 3, 2, (1, 1, 1, 1)),
    "padded behind": (9, 8, 3, 2, (0, 1, 0, 1)),
    "2x2": (8, 8, 2, 2, (0, 0, 0, 0)),
    "2x2, rows left over": (15, 7, 2, 2, (0, 0, 0, 0)),
    "AlexNet's": (13, 13, 3, 2, (0, 0, 0, 0)),
    "windows that overlap much": (10, 9, 5, 1, (2, 2, 2, 2)),
    "windows that leave gaps": (11, 12, 2, 3, (0, 0, 0, 0)),
}


@compiles
@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_a_pool_gives_what_torch_gives(name: str, dtype: torch.dtype) -> None:
    height, width, kernel, stride, pads = POOLS[name]
    x = draw(3, 48, height, width, dtype=dtype).relu().requires_grad_()  # many zeros are alike
    assert pool_fits(x, kernel, pads)
    y = max_pool(x, kernel, stride, pads)
    exact_x = x.detach().float().requires_grad_()
    exact = F.max_pool2d(F.pad(exact_x, pads, value=float("-inf")), kernel, stride)
    dy = draw(*y.shape, seed=1, dtype=dtype)
    (found,) = torch.autograd.grad(y, x, dy)
    (wanted,) = torch.autograd.grad(exact, exact_x, dy.float())
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(y, exact.to(dtype))
    if dtype == torch.bfloat16:
        assert torch.equal(found, wanted.bfloat16())
    else:
        assert distance(found, wanted) < 1e-6  # of several windows, in another order


@compiles
def test_a_pool_keeps_what_is_not_a_number() -> None:
    x = draw(2, 16, 4, 4)
    x[1, 5, 2, 2] = float("nan")
    y = max_pool(x.requires_grad_(), 2, 2, (0, 0, 0, 0))
    assert y.isnan().sum() == 1
    assert y[1, 5, 1, 1].isnan()


@compiles
def test_pools_that_do_not_fit_go_torchs_way() -> None:
    x, none = draw(2, 16, 4, 4).requires_grad_(), (0, 0, 0, 0)
    assert pool_fits(x, 2, none)
    assert not pool_fits(x.detach(), 2, none)  # nothing to go back through
    assert not pool_fits(x[:, :12], 2, none)
    assert not pool_fits(torch.randn(2, 16, 4, 4).requires_grad_(), 2, none)  # channels first
    assert not pool_fits(x.double(), 2, none)
    assert not pool_fits(x, 2, (2, 0, 0, 0))
    assert not pool_fits(x, 9, none)


def test_the_limits_are_in_order() -> None:
    assert conv.COLUMNS <= conv.WIDE_COLUMNS <= conv.POINTWISE_WEIGHT
