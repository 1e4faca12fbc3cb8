from __future__ import annotations

import pytest
import torch

import forebear
from forebear.network.dense import dense_error
from forebear.network.plan.expand import output_strides
from forebear.tables.dialects import DIALECTS
from forebear.tables.registry import find
from forebear.tables.rows import Form
from tests.network.making import ROOT, SMALL_ROOT, make, table

CLOSE = 1e-4  # relative
RESIDUAL = [name for name in DIALECTS if "alexnet" not in name]
FULL = [
    "slim/resnet_v1_50",
    "slim/resnet_v2_50",
    "torchvision/resnet18",
    "torchvision/resnet50",
    "torchvision/resnext50_32x4d",
    "timm/resnetv2_50",
]


@pytest.mark.parametrize("form", ["basic", "bottleneck"])
@pytest.mark.parametrize("dialect", RESIDUAL)
@pytest.mark.long(after=1)
def test_dense_features_subsampled_are_the_nominal_ones(dialect: str, form: Form) -> None:
    for root in (ROOT, SMALL_ROOT):
        net = make(table(form, root), dialect, num_classes=7)
        strides = output_strides(net.table, net.dialect)
        assert len(strides) == 4
        for stride in strides:
            for size in ((49, 49), (35, 48)):
                assert net.verify_dense(stride, size=size) <= CLOSE, (stride, size)


def test_a_plain_network_is_dense_too() -> None:
    net = make(table(shortcuts=False), "torchvision", num_classes=7)
    assert max(net.verify_dense(stride) for stride in (4, 8, 24, 48)) <= CLOSE


@pytest.mark.parametrize("name", ["slim/alexnet_v2", "torchvision/alexnet"])
@pytest.mark.long
def test_alexnet_is_dense_too(name: str) -> None:
    net = make(name, num_classes=5)
    for stride in (4, 8, 16, 32):
        assert net.verify_dense(stride, size=(224, 261)) <= CLOSE


@pytest.mark.slow
@pytest.mark.parametrize("size", [(161, 129), (128, 160)])
@pytest.mark.parametrize("name", FULL)
def test_full_size_networks_are_dense_at_every_output_stride(
    name: str, size: tuple[int, int]
) -> None:
    net = make(name, num_classes=21)
    found = {stride: net.verify_dense(stride, size=size) for stride in (4, 8, 16, 32)}
    print(f"\n{name} {size}", {stride: f"{value:.1e}" for stride, value in found.items()})
    assert max(found.values()) <= CLOSE


@pytest.mark.slow
@pytest.mark.parametrize("name", forebear.networks())
def test_every_network_is_dense_at_half_its_stride(name: str) -> None:
    entry = find(name)
    strides = output_strides(entry.table, entry.dialect)
    if len(entry.table.blocks) == 3 and sum(block.units for block in entry.table.blocks) > 300:
        pytest.skip("its small sisters stand for it: 1001 and 1202 layers")
    if name in ("timm/resnext101_32x32d", "timm/resnext101_32x48d"):
        pytest.skip("resnext101_32x16d stands for it: it has up to 829 million parameters")
    net = make(name, num_classes=3)
    side = max(33, net.smallest_side)
    assert net.verify_dense(strides[-2], size=(side, side + 1)) <= CLOSE


def test_a_rate_that_comes_one_layer_early_is_seen() -> None:
    nominal, dense = (
        make(table("basic"), "torchvision", num_classes=7, global_pool=False, output_stride=stride)
        for stride in (None, 4)
    )
    assert dense_error(nominal, dense, size=None, seed=0) <= CLOSE
    conv = dense.get_submodule("block2.unit_1.conv1.conv")
    assert isinstance(conv, torch.nn.Conv2d)
    conv.dilation = conv.padding = (4, 4)
    assert dense_error(nominal, dense, size=None, seed=0) > 1e-2


def test_maps_of_different_sides_are_infinitely_apart() -> None:
    nominal, dense = (
        make("torchvision/resnet18", num_classes=7, global_pool=False, output_stride=stride)
        for stride in (None, 16)
    )
    conv = dense.get_submodule("root.conv1.conv")
    assert isinstance(conv, torch.nn.Conv2d)
    conv.stride = (1, 1)
    assert dense_error(nominal, dense, size=(65, 65), seed=0) == float("inf")


def test_a_dense_map_has_the_size_of_its_stride_with_aligned_corners() -> None:
    net = make("slim/resnet_v1_50", num_classes=21, output_stride=16, global_pool=False)
    with torch.inference_mode():
        assert net(torch.randn(1, 3, 97, 65)).shape == (1, 21, (97 - 1) // 16 + 1, 5)
