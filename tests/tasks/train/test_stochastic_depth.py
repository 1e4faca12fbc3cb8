from __future__ import annotations

import copy

import pytest
import torch

import forebear
from forebear import Block, Conv, Table
from forebear.network.accelerate import accelerate
from forebear.network.network import Network
from forebear.tasks.train.stochastic_depth import apply_stochastic_depth

TABLE = Table("deep", (Conv("conv1", 4, 3),), "basic", (Block("block1", 3, 4, 4),), classes=3)


def network() -> Network:
    draws = torch.Generator().manual_seed(0)
    return forebear.create(TABLE, dialect="torchvision", generator=draws)


def test_units_are_left_out_in_training_alone_the_last_most_often() -> None:
    net, images = network(), torch.randn(2000, 3, 4, 4)
    whole = net.eval()(images)
    apply_stochastic_depth(net, 0.6)
    assert torch.equal(net.eval()(images), whole)
    torch.manual_seed(0)
    ends = [f"block1.unit_{n}" for n in (1, 2, 3)]
    kept = {}
    for end in ends:
        net.get_submodule(end).get_submodule("conv2").register_forward_hook(
            lambda _, __, output, end=end: kept.update({end: output.flatten(1).abs().sum(1) > 0})
        )
    net.train()(images)
    shares = [1 - float(kept[end].float().mean()) for end in ends]
    assert shares == pytest.approx([0.0, 0.3, 0.6], abs=0.04)


def test_what_is_kept_is_divided_by_its_share() -> None:
    net = network()
    unit = net.get_submodule("block1.unit_3")
    apply_stochastic_depth(net, 0.5)
    inputs = torch.randn(4000, 4, 4, 4)
    conv2 = unit.get_submodule("conv2").train()
    torch.manual_seed(1)
    thinned = conv2(inputs)
    scales = thinned.flatten(1).norm(dim=1)
    conv2.register_forward_hook(lambda _, __, output: output)
    kept = scales > 0
    assert float(kept.float().mean()) == pytest.approx(0.5, abs=0.04)
    conv2._forward_hooks.clear()
    whole = conv2(inputs).flatten(1).norm(dim=1)
    torch.testing.assert_close(scales[kept], 2 * whole[kept])


@pytest.mark.parametrize("before", [True, False])
def test_an_accelerated_network_leaves_out_the_same_units(before: bool) -> None:
    plain = forebear.create("paper/resnet20", num_classes=3).train()
    plain.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    fast = copy.deepcopy(plain)
    if before:
        accelerate(fast)
    images = torch.randn(8, 3, 16, 16).to(memory_format=torch.channels_last)
    logits = []
    for net in (plain, fast):
        apply_stochastic_depth(net, 0.5)
        if net is fast:
            accelerate(net)
        torch.manual_seed(0)
        logits.append(net(images))
    torch.testing.assert_close(logits[1], logits[0], rtol=1e-3, atol=1e-4)
    assert not torch.allclose(fast(images), logits[0], atol=1e-2)  # other units are drawn


@pytest.mark.long
def test_a_network_without_units_has_none_to_leave_out() -> None:
    net = forebear.create("slim/alexnet_v2", num_classes=3)
    with pytest.raises(ValueError, match="no residual units to skip. Expected 0"):
        apply_stochastic_depth(net, 0.1)
