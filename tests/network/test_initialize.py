from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import forebear


def made(name: str, **options: Any) -> forebear.Network:
    net: forebear.Network = forebear.create(
        name, generator=torch.Generator().manual_seed(0), **options
    )
    return net


def std(tensor: Tensor) -> float:
    return float(tensor.detach().std())


@pytest.mark.parametrize(
    ("name", "weight", "expected"),
    [
        # 0.8796: what cutting a normal at two deviations leaves of its own
        ("slim/resnet_v1_50", "block3.unit_2.conv2.conv.weight", 0.8796 * math.sqrt(2.6 / 2304)),
        ("slim/resnet_v1_50", "logits.weight", 0.8796 * math.sqrt(2.6 / 2048)),
        ("slim/alexnet_v2", "conv3.conv.weight", math.sqrt(2 / (9 * (192 + 384)))),
        ("slim/alexnet_v2", "fc7.conv.weight", 0.8796 * 0.005),
        ("keras/ResNet50", "block3.unit_2.conv2.conv.weight", math.sqrt(2 / (9 * 512))),
        ("torchvision/resnet18", "block2.unit_1.conv1.conv.weight", math.sqrt(2 / (9 * 128))),
        ("torchvision/alexnet", "conv3.conv.weight", math.sqrt(1 / (3 * 9 * 192))),
        ("timm/resnetv2_18", "logits.weight", 0.01),
        ("paper/resnet20", "block2.unit_1.conv1.conv.weight", math.sqrt(2 / (9 * 16))),
        ("paper/preresnet164", "block3.unit_2.conv2.conv.weight", math.sqrt(2 / (9 * 64))),
    ],
)
@pytest.mark.long
def test_weights_spread_as_the_home_draws_them(name: str, weight: str, expected: float) -> None:
    assert std(made(name).get_parameter(weight)) == pytest.approx(expected, rel=0.04)


@pytest.mark.long
def test_biases_are_the_homes() -> None:
    slim = made("slim/alexnet_v2").state_dict()
    assert (slim["conv2.conv.bias"] == 0.1).all()
    assert (slim["fc6.conv.bias"] == 0.1).all()
    assert (slim["logits.bias"] == 0).all()
    keras = made("keras/ResNet50").state_dict()
    assert (keras["block1.unit_1.conv1.conv.bias"] == 0).all()
    assert made("torchvision/resnet18").state_dict()["logits.bias"].abs().max() > 0.01


def test_timms_units_start_as_the_identity_and_torchvisions_do_not() -> None:
    last = "block1.unit_2.conv2.norm.weight"
    assert (made("timm/resnet18").get_parameter(last) == 0).all()
    assert (made("torchvision/resnet18").get_parameter(last) == 1).all()
    assert (made("timm/resnetv2_18").get_parameter("block1.unit_2.preact.norm.weight") == 1).all()
