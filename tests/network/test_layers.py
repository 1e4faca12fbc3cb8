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
from forebear.network import layers
from forebear.network.describe.describe import report
from forebear.network.describe.drawing_layout import stages
from forebear.network.layers import BiasedNorm
from forebear.network.plan.end_points import end_points
from forebear.network.plan.expand import expand
from forebear.network.plan.plan import Layer
from forebear.tables.dialects import DIALECTS
from forebear.weights.rewrite import fold_norms
from tests.network.making import make, table

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


def test_a_biased_norm_moves_its_variance_by_that_of_the_batch_itself() -> None:
    x = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(4)) * 3 + 1
    norm = BiasedNorm(3, momentum=0.25)
    plain = torch.nn.BatchNorm2d(3, momentum=0.25)
    assert torch.equal(norm(x), plain(x))
    assert norm.running_var is not None
    assert plain.running_var is not None
    biased = x.var((0, 2, 3), correction=0)
    torch.testing.assert_close(norm.running_var, 0.75 + 0.25 * biased)
    torch.testing.assert_close(plain.running_var, 0.75 + 0.25 * biased * 40 / 39)
    assert int(norm.num_batches_tracked or 0) == 1
    assert torch.equal(norm.eval()(x), norm(x))


def pooled(dialect: str, side: int) -> torch.Tensor:
    """A pool of 3x3 with stride 2 over a rising map of negative values."""
    plan = expand(table(), DIALECTS[dialect], num_classes=2)
    pool = layers.make(plan.root[1], plan.dialect)
    rising = torch.arange(-side * side, 0.0).reshape(1, 1, side, side)
    found: torch.Tensor = pool(rising)
    return found[0, 0]


def test_pools_begin_and_pad_as_each_library_does() -> None:
    # On 4x4: TensorFlow's windows begin at pixel 0, those of torch and Keras at -1.
    assert pooled("slim-v1", 4).tolist() == [[-6, -5], [-2, -1]]
    assert pooled("torchvision", 4).tolist() == [[-11, -9], [-3, -1]]
    assert pooled("keras-v1", 4).tolist() == [[0, 0], [0, -1]]  # a zero of the border wins


@pytest.mark.parametrize(("kernel", "step"), [(3, 2), (7, 2), (2, 2), (3, 1), (1, 2), (5, 3)])
def test_same_padding_is_tensorflows(kernel: int, step: int) -> None:
    layer = Layer(
        path="x", kind="conv", in_channels=1, channels=1, kernel=kernel, step=step, stride=step
    )
    for side in range(1, 20):
        given = -(-side // step)
        total = max((given - 1) * step + kernel - side, 0)
        assert layers.same_pads(layer, side) == (total // 2, total - total // 2), side


def test_an_identity_takes_each_strides_first_pixel_and_adds_zero_channels() -> None:
    layer = Layer(
        path="x", kind="identity", in_channels=2, channels=5, step=2, stride=2, zeros=(1, 2)
    )
    x = torch.arange(1.0, 19).reshape(1, 2, 3, 3)
    y = layers.make(layer, DIALECTS["paper-cifar"])(x)
    assert y.shape == (1, 5, 2, 2)
    assert torch.equal(y[:, 1:3], x[:, :, ::2, ::2])
    assert not y[:, [0, 3, 4]].any()


def test_logits_of_a_map_are_those_of_each_of_its_places() -> None:
    logits = layers.Logits(4, 3)
    x = torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(5))
    found = logits(x)
    assert found.shape == (2, 3, 5, 6)
    torch.testing.assert_close(found[:, :, 2, 3], logits(x[:, :, 2, 3]))
