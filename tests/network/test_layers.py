"""Single layers are what their formula says."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import forebear
from forebear import Conv, Norm, Pool, Table
from forebear.network.describe.describe import report
from forebear.network.describe.drawing_layout import stages
from forebear.network.plan.end_points import end_points
from forebear.weights.rewrite import fold_norms
from tests.network.making import make

IMAGES = torch.randn(2, 3, 65, 48, generator=torch.Generator().manual_seed(1))


def plain(**options: Any) -> forebear.Network:
    """Two convolutions, the norm of the second after its pool."""
    conv2 = Conv("conv2", 16, 3, bare=True)
    pool = Pool("pool2", 2, 2, padding="valid")
    layers = (Conv("conv1", 8, 3), conv2, pool, Norm("norm2"))
    return make(Table("plain", (), layers=layers, classes=5, **options), "timm")


@pytest.mark.parametrize("training", [False, True])
def test_a_norm_can_follow_the_pool_and_the_activation_be_another(training: bool) -> None:
    net = plain(activation="hardswish").train(training)
    one, two, last = net.conv1, net.conv2, net.norm2
    assert isinstance(one.norm, torch.nn.BatchNorm2d)
    assert two.norm is None
    ours = copy.deepcopy(net)(IMAGES)
    x = F.hardswish(one.norm(F.conv2d(IMAGES, one.conv.weight, padding=1)))
    x = F.max_pool2d(F.conv2d(x, two.conv.weight, padding=1), 2)
    x = F.hardswish(last.norm(x)).mean((2, 3))
    assert torch.allclose(ours, net.logits(x), atol=1e-6)
    assert not torch.allclose(ours, copy.deepcopy(plain()).train(training)(IMAGES), atol=1e-2)


def test_a_norm_of_its_own_is_told_and_kept(tmp_path: Path) -> None:
    net = plain(activation="hardswish")
    told = report(net.plan, 32)
    assert "hardswish in each ReLU's place" in told.answers
    assert ("norm, hardswish", "16x16x16") in [stage.lines for stage in stages(told)]
    assert [path for path in end_points(net.plan) if "2" in path] == [
        "conv2",
        "pool2",
        "norm2",
    ]
    forebear.save(net, tmp_path / "plain.safetensors")
    assert torch.equal(forebear.load(tmp_path / "plain.safetensors")(IMAGES), net(IMAGES))
    folded = fold_norms(net)
    assert "norm2.norm.weight" in folded.state_dict()  # there is no convolution to fold it into
    assert "conv1.norm.weight" not in folded.state_dict()
    assert torch.allclose(folded(IMAGES), net(IMAGES), atol=1e-5)
