"""A convolution of a rate above 1 has the values and gradients of torch's, by parts of the map."""

from __future__ import annotations

import copy
import random
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from forebear.network.kernels import convolution
from forebear.network.kernels.conv_geometry import Window
from forebear.network.kernels.split_maps import Split
from tests.network.kernels.making import Case, draw, error, gradients, multiplies_fp32, pair


def random_case(seed: int) -> Case:
    """Returns a convolution of a rate from 2 to 4, padded by any number of pixels."""
    pick = random.Random(seed)
    rate = pick.randint(2, 4)
    height, width = (pick.randint(2 * rate + 1, 25) for _ in range(2))
    top, left = (pick.choice((0, rate, pick.randint(0, 2 * rate))) for _ in range(2))
    channels_in, channels = (32 * pick.randint(1, 2) for _ in range(2))
    down, across = height + 2 * top - 2 * rate, width + 2 * left - 2 * rate
    window = Window(3, 1, top, left, down, across, rate=rate)
    taps = draw(channels, channels_in, 3, 3, seed=seed + 1) / (9 * channels_in) ** 0.5
    return Case(
        window,
        draw(2, channels_in, height, width, seed=seed).requires_grad_(),
        taps.requires_grad_(),
        draw(2, channels, down, across, seed=seed + 2),
    )


@multiplies_fp32
@pytest.mark.parametrize("seed", range(0, 60, 3))
def test_parts_give_what_the_map_gives(seed: int) -> None:
    case = random_case(seed)
    found = case.by(Split)
    assert max(case.errors(found)) < 5e-6
    assert found[0].is_contiguous(memory_format=torch.channels_last)


@multiplies_fp32
def test_a_rate_goes_by_parts_or_by_torch_only() -> None:
    window = Window(3, 1, 2, 2, 14, 14, rate=2)
    x, weight = draw(2, 32, 14, 14), draw(32, 32, 3, 3)
    assert list(convolution._ways(window, x, weight, winograd=True)) == [Split]
    for other, maps, taps in (
        (window, x.bfloat16(), weight),
        (window, x[:, :8], weight[:, :8]),
        (replace(window, groups=2), x, weight[:, :16]),
        (replace(window, stride=2), x, weight),
    ):
        assert not list(convolution._ways(other, maps, taps, winograd=True))
    assert not list(convolution._ways(window, x, weight, winograd=False))
    assert not window.sees_all(1, 1)


@multiplies_fp32
def test_a_dense_network_trains_by_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    plain_apply = Split.apply

    def apply(x: Tensor, weight: Tensor, window: Window) -> Tensor:
        calls.append(window.rate)
        return plain_apply(x, weight, window)

    monkeypatch.setattr(convolution, "fastest", lambda ways, *_: ways[0])
    monkeypatch.setattr(Split, "apply", staticmethod(apply))
    plain, fast = pair("dense")
    images = draw(8, 3, 15, 17)
    ours, theirs = gradients(fast, images), gradients(copy.deepcopy(plain), images)
    exact = gradients(plain.double(), images.double())
    assert calls == [2, 2, 2]  # the first convolution of a block has the rate of the one before
    assert error(ours, exact) < 3 * error(theirs, exact) + 1e-4
