"""Weight gradients as matrix products are those of the convolution."""

from __future__ import annotations

import pytest
import torch

from forebear.hardware import FORCE
from forebear.network.kernels.conv_geometry import Window
from forebear.network.kernels.weight_gradient import fits, weight_gradient
from tests.network.kernels.making import multiplies_fp32, random_case

KERNELS = ((1, 1), (1, 2), (2, 2), (3, 1), (3, 2), (5, 1), (7, 2), (11, 4))  # side, stride


def error(seed: int, kernel: int, stride: int) -> float:
    case = random_case(seed, kernel=kernel, stride=stride)
    assert fits(case.window, torch.float32, case.x.shape[1], len(case.weight))
    with torch.no_grad():
        found = weight_gradient(case.x, case.dy, case.window)
    assert found.is_contiguous(memory_format=torch.channels_last)
    return case.errors((*case.by_torch()[:2], found))[2]


@multiplies_fp32
@pytest.mark.parametrize(("kernel", "stride"), KERNELS)
@pytest.mark.parametrize("seed", [0, 3])
def test_they_are_close_to_float64(kernel: int, stride: int, seed: int) -> None:
    assert error(seed, kernel, stride) < 1e-6


@multiplies_fp32
@pytest.mark.slow
def test_they_are_close_to_float64_in_500_shapes() -> None:
    for seed in range(1000, 1063):
        for kernel, stride in KERNELS:
            assert error(seed, kernel, stride) < 1e-6


@multiplies_fp32
def test_they_are_the_same_bits_by_any_number_of_threads() -> None:
    case, results, threads = random_case(5, stride=2), [], torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(weight_gradient(case.x.detach(), case.dy, case.window))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(results[0], other) for other in results[1:])


@multiplies_fp32
def test_what_does_not_fit_is_left_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    window = Window(3, 1, 1, 1, 8, 8)
    assert fits(window, torch.float32, 32, 32)
    assert not fits(window, torch.bfloat16, 32, 32)
    assert not fits(window, torch.float32, 3, 32)
    assert not fits(window, torch.float32, 32, 10)
    assert not fits(Window(3, 1, 1, 1, 8, 8, groups=2), torch.float32, 32, 32)
    monkeypatch.setenv(FORCE, "none")
    assert not fits(window, torch.float32, 32, 32)
