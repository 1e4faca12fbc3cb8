"""Rewrites leave a network's function as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import forebear
from forebear import WeightsError
from forebear.network.plan.cost import measure
from forebear.tables.rows import Block, Conv, Table
from forebear.tasks.convert import convert, difference
from forebear.weights.rewrite import fold_input, fold_norms, move_strides
from tests.network.making import make


def test_strides_move_to_tf_slims_place_and_a_tenth_of_the_work_goes() -> None:
    net = make("keras/ResNet50", num_classes=7)
    moved = move_strides(net)
    assert difference(net, moved) < 1e-5
    costs = [
        sum(row.multiply_adds for row in measure(n.plan, 224) if row.kind != "unit")
        for n in (net, moved)
    ]
    assert round(100 * (1 - costs[1] / costs[0]), 1) == 9.7
    with pytest.raises(ValueError, match="rewrite=strides: resnet18 in dialect torchvision"):
        move_strides(make("torchvision/resnet18"))


def test_strides_move_where_each_strided_unit_has_a_projection() -> None:
    """As in dialect detectron: wherever the stride or the channels change."""
    rows = (Block("b1", 2, 4, 16), Block("b2", 2, 4, 16, 2), Block("b3", 1, 8, 32, 2))
    table = Table("t", (Conv("conv1", 8, 3),), blocks=rows, image_size=32)
    net = forebear.create(table, dialect="detectron", num_classes=7).eval()
    moved = move_strides(net)
    assert [unit.convs[1].stride for unit in moved.plan.units()] == [1, 2, 1, 2, 1]
    assert difference(net, moved) < 1e-5
    table = Table("t", (Conv("conv1", 16, 3),), blocks=rows[:2], image_size=32)
    with pytest.raises(ValueError, match="no dialect with TF-Slim's strides has the projections"):
        move_strides(forebear.create(table, dialect="detectron", num_classes=7))


@pytest.mark.parametrize("name", ["slim/resnet_v2_50", "keras/ResNet50", "torchvision/resnet18"])
@pytest.mark.long
def test_folded_norms_leave_the_function(name: str) -> None:
    net = make(name, num_classes=7)
    folded = fold_norms(net)
    assert difference(net, folded) < 1e-5
    left = [module for module in folded.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert len(left) == (17 if "v2" in name else 0)
    if not left:
        with pytest.raises(ValueError, match="rewrite=norms: no norm"):
            fold_norms(folded)


@pytest.mark.parametrize("name", ["keras/ResNet50", "timm/resnetv2_18"])
@pytest.mark.long
def test_folded_input_takes_plain_rgb_less_the_mean(name: str) -> None:
    net = make(name, num_classes=7)
    folded = fold_input(net)
    rule = folded.preprocessing
    assert (rule.order, rule.scale, rule.std) == ("RGB", 1.0, (1.0, 1.0, 1.0))
    assert difference(net, folded) < 2e-5
    if name.startswith("keras"):
        assert rule.mean == (123.68, 116.779, 103.939)


@pytest.mark.long
def test_a_first_convolution_without_padding_takes_the_mean_too() -> None:
    net = make("slim/alexnet_v2", num_classes=7)
    folded = fold_input(net)
    assert (folded.preprocessing.mean, net.preprocessing.mean[0]) == ((0.0, 0.0, 0.0), 123.68)
    assert difference(net, folded) < 2e-5
    assert net.get_parameter("root.conv1.conv.bias").equal(
        make("slim/alexnet_v2", num_classes=7).get_parameter("root.conv1.conv.bias")
    )
    with pytest.raises(ValueError, match="rewrite=input: resnet_v1_50"):  # its padding is not zero
        fold_input(make("slim/resnet_v1_50", num_classes=7))


def test_folded_networks_survive_their_file(tmp_path: Path) -> None:
    net = fold_input(fold_norms(make("paper/resnet20")))
    forebear.save(net, tmp_path / "a.safetensors")
    again = forebear.load(tmp_path / "a.safetensors")
    image = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(net(image), again(image), rtol=1e-5, atol=1e-5)
    assert again.preprocessing == net.preprocessing
    with pytest.raises(WeightsError, match="no network of this library holds resnet20"):
        convert(tmp_path / "a.safetensors", tmp_path / "b.pth")
