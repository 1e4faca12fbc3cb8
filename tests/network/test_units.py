"""Residual units are their equations."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forebear.network.layers import Conv, Norm
from forebear.network.units import UnitV1, UnitV2, make_unit
from tests.network.making import make, table


def unit_of(dialect: str, path: str = "block1.unit_1", *, shortcuts: bool = True) -> nn.Module:
    """A unit of the small network, with lively weights, in evaluation mode."""
    net = make(table(shortcuts=shortcuts), dialect, num_classes=None)
    return net.get_submodule(path)


def given(unit: nn.Module, side: int = 9) -> Tensor:
    """An image with the channels that the unit takes."""
    first = unit.get_submodule("conv1")
    assert isinstance(first, Conv)
    draws = torch.Generator().manual_seed(3)
    return torch.randn(2, first.layer.in_channels, side, side, generator=draws)


def convolved(unit: UnitV1 | UnitV2, x: Tensor) -> Tensor:
    """The three convolutions by torch's own functions, each with its norm and ReLU if it has."""
    for name in ("conv1", "conv2", "conv3"):
        layer = unit.get_submodule(name)
        assert isinstance(layer, Conv)
        own = layer.conv
        x = F.conv2d(layer.aligned(x), own.weight, own.bias, own.stride, own.padding, own.dilation)
        x = x if layer.norm is None else layer.norm(x)
        x = F.relu(x) if name != "conv3" else x
    return x


def test_version_1_is_the_relu_of_shortcut_and_convolutions() -> None:
    unit = unit_of("torchvision")
    assert isinstance(unit, UnitV1)
    assert unit.shortcut is not None
    x = given(unit)
    with torch.inference_mode():
        expected = F.relu(unit.shortcut(x) + convolved(unit, x))
        torch.testing.assert_close(unit(x), expected)
        assert (unit(x) == 0).any()


def test_version_2_adds_without_a_relu_and_projects_its_pre_activation() -> None:
    unit = unit_of("slim-v2")
    assert isinstance(unit, UnitV2)
    assert isinstance(unit.preact, Norm)
    assert unit.shortcut is not None
    x = given(unit)
    with torch.inference_mode():
        p = F.relu(unit.preact.norm(x))
        torch.testing.assert_close(unit(x), unit.shortcut(p) + convolved(unit, p))
        assert (unit(x) < 0).any()


def test_an_identity_of_version_2_takes_the_units_own_input() -> None:
    unit = unit_of("slim-v2", "block2.unit_2")
    assert isinstance(unit, UnitV2)
    assert isinstance(unit.preact, Norm)
    assert not unit.taps_preact
    x = given(unit)
    with torch.inference_mode():
        p = F.relu(unit.preact.norm(x))
        torch.testing.assert_close(unit(x), x + convolved(unit, p))


@pytest.mark.parametrize("dialect", ["torchvision", "slim-v2"])
def test_a_plain_unit_has_no_sum(dialect: str) -> None:
    unit = unit_of(dialect, shortcuts=False)
    assert isinstance(unit, UnitV1 | UnitV2)
    assert unit.shortcut is None
    x = given(unit)
    with torch.inference_mode():
        if isinstance(unit, UnitV1):
            expected = F.relu(convolved(unit, x))
        else:
            assert isinstance(unit.preact, Norm)
            expected = convolved(unit, F.relu(unit.preact.norm(x)))
        torch.testing.assert_close(unit(x), expected)


@pytest.mark.parametrize(("dialect", "kind"), [("slim-v1", UnitV1), ("slim-v2", UnitV2)])
def test_each_version_has_its_module(dialect: str, kind: type[nn.Module]) -> None:
    net = make(dialect=dialect, network=table(), num_classes=None)
    for unit in net.plan.units():
        assert type(net.get_submodule(unit.path)) is kind
        assert type(make_unit(unit, net.dialect)) is kind
