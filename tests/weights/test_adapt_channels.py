from __future__ import annotations

from importlib import import_module

import pytest
import torch

import forebear
from forebear.weights.adapt_channels import adapt_channels, first_kernel


def kernel() -> torch.Tensor:
    return torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))


def test_a_grey_image_has_the_result_of_three_equal_channels() -> None:
    grey = torch.randn(1, 1, 8, 8)
    found = adapt_channels(kernel(), 1, order="RGB")
    assert found.shape == (2, 1, 5, 5)
    torch.testing.assert_close(
        torch.conv2d(grey, found), torch.conv2d(grey.expand(1, 3, 8, 8), kernel())
    )


@pytest.mark.parametrize(("channels", "turns"), [(2, [0, 1]), (4, [0, 1, 2, 0]), (7, [0, 1, 2])])
def test_more_channels_take_the_colours_in_turn(channels: int, turns: list[int]) -> None:
    found = adapt_channels(kernel(), channels, order="RGB")
    assert found.shape == (2, channels, 5, 5)
    for place, colour in enumerate(turns):
        torch.testing.assert_close(found[:, place], kernel()[:, colour] * 3 / channels)
    equal = adapt_channels(torch.ones(1, 3, 1, 1), channels, order="RGB")
    assert float(equal.sum()) == pytest.approx(3)


def test_it_is_what_timm_does() -> None:
    pytest.importorskip("timm")
    timm = import_module("timm.models._manipulate")
    for channels in (1, 2, 3, 4, 6, 13):
        theirs = timm.adapt_input_conv(channels, kernel())
        torch.testing.assert_close(adapt_channels(kernel(), channels, order="RGB"), theirs)


def test_the_filters_of_a_checkpoint_in_bgr_come_in_the_order_of_files() -> None:
    found = adapt_channels(kernel(), 4, order="BGR")
    torch.testing.assert_close(found[:, 0], kernel()[:, 2] * 0.75)  # red
    torch.testing.assert_close(found[:, 2], kernel()[:, 0] * 0.75)


def test_other_kernels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"kernel \[2, 4, 1, 1\] for 3 channels: expected"):
        adapt_channels(torch.zeros(2, 4, 1, 1), 3, order="RGB")


@pytest.mark.parametrize("name", ["paper/resnet20", "slim/resnet_v2_50", "slim/alexnet_v2"])
def test_the_first_kernel_is_that_of_the_input(name: str) -> None:
    network = forebear.create(name, in_channels=5, num_classes=2)
    assert network.state_dict()[first_kernel(network)].shape[1] == 5
