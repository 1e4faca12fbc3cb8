"""Plans: where each dialect puts strides and zeros, what dilation replaces, what is refused."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from forebear import Block, Conv, Table, TableError
from forebear.network.plan.expand import expand, output_strides
from forebear.network.plan.plan import Layer, Plan
from forebear.tables.dialects import DIALECTS
from tests.tables.making import spelled


def layers(plan: Plan) -> dict[str, Layer]:
    return {layer.path: layer for layer in plan.layers()}


def strided(plan: Plan) -> list[str]:
    """The convolutions and pools with a stride, without shortcuts."""
    return [
        layer.path
        for layer in plan.layers()
        if layer.stride > 1 and not layer.path.endswith("shortcut")
    ]


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("slim/resnet_v1_50", "block1.unit_3.conv2 block2.unit_4.conv2 block3.unit_6.conv2"),
        ("keras/ResNet50", "block2.unit_1.conv1 block3.unit_1.conv1 block4.unit_1.conv1"),
        ("keras/ResNet50V2", "block1.unit_3.conv2 block2.unit_4.conv2 block3.unit_6.conv2"),
        ("torchvision/resnet50", "block2.unit_1.conv2 block3.unit_1.conv2 block4.unit_1.conv2"),
        ("torchvision/resnet18", "block2.unit_1.conv1 block3.unit_1.conv1 block4.unit_1.conv1"),
    ],
)
def test_each_dialect_has_its_strides_in_their_places(name: str, where: str) -> None:
    assert strided(spelled(name)) == ["root.conv1", "root.pool1", *where.split()]


def test_output_strides_go_up_to_the_nominal_one() -> None:
    table, dialect = spelled("slim/resnet_v1_50").table, DIALECTS["slim-v1"]
    assert output_strides(table, dialect) == (4, 8, 16, 32)
    assert output_strides(table, dialect, include_root=False) == (1, 2, 4, 8)
    assert output_strides(spelled("paper/resnet20").table, DIALECTS["paper-cifar"]) == (1, 2, 4)


def test_a_stride_beyond_the_output_stride_becomes_the_rate_of_all_later_layers() -> None:
    plan = spelled("torchvision/resnet50", output_stride=8)
    found = layers(plan)
    assert plan.stride == 8
    assert strided(plan)[-1] == "block2.unit_1.conv2"
    rates = {path: found[f"{path}.conv2"].rate for path in ("block3.unit_1", "block3.unit_2")}
    assert rates == {"block3.unit_1": 1, "block3.unit_2": 2}  # a kernel sees the map before it
    assert found["block4.unit_1.conv2"].rate == 2
    assert found["block4.unit_3.conv2"].rate == 4
    assert (found["block3.unit_1.conv2"].step, found["block3.unit_1.conv2"].stride) == (2, 1)
    assert {layer.rate for layer in spelled("torchvision/resnet50").layers()} == {1}
    basic = layers(spelled("torchvision/resnet18", output_stride=16))
    rates = {path: basic[f"block4.unit_1.{path}"].rate for path in ("conv1", "conv2")}
    assert rates == {"conv1": 1, "conv2": 2}


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("slim-v1", "conv identity conv identity"),  # channels change in each first unit
        ("paper-v1-c", "conv conv conv conv"),
        ("paper-v1-a", "identity identity identity identity"),
    ],
)
def test_shortcuts_are_the_dialects(name: str, kinds: str) -> None:
    blocks = (Block("b1", 2, 8, 32), Block("b2", 2, 8, 64, stride=2))
    plan = expand(
        Table("mine", (Conv("conv1", 8, 3),), blocks=blocks), DIALECTS[name], num_classes=2
    )
    found = [unit.shortcut for unit in plan.units()]
    assert [shortcut.kind for shortcut in found if shortcut is not None] == kinds.split()


def test_zero_channels_come_behind_or_on_both_sides() -> None:
    table = spelled("paper/resnet20").table
    behind = layers(expand(table, DIALECTS["paper-v1-a"], num_classes=10))
    around = layers(expand(table, DIALECTS["paper-cifar"], num_classes=10))
    assert behind["block2.unit_1.shortcut"].zeros == (0, 16)
    assert around["block2.unit_1.shortcut"].zeros == (8, 8)
    assert around["block2.unit_2.shortcut"].zeros == (0, 0)


def test_folding_gives_each_convolution_a_bias_in_its_norms_place() -> None:
    plan = spelled("slim/resnet_v2_50", folded=True)
    convs = [layer for layer in plan.layers() if layer.kind == "conv"]
    assert all(layer.bias and not layer.norm for layer in convs)
    left = [layer for layer in plan.layers() if layer.norm]
    assert {layer.kind for layer in left} == {"norm"}
    assert len(left) == 17  # a pre-activation a unit, and the last norm


def test_without_classes_pool_or_root_the_rest_is_the_same() -> None:
    whole = spelled("slim/resnet_v1_50")
    bare = spelled(
        "slim/resnet_v1_50",
        num_classes=None,
        global_pool=False,
        include_root=False,
        in_channels=64,
    )
    assert bare.blocks == whole.blocks
    assert (bare.root, bare.head()) == ((), ())
    assert [layer.path for layer in whole.head()] == ["pool", "logits"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"num_classes": 0},
            "num_classes=0: expected a positive integer of at most 100,000, or None. Pass None to",
        ),
        ({"num_classes": 2.0}, "num_classes=2.0: expected a positive integer of at most"),
        ({"num_classes": 10**9}, "num_classes=1000000000: expected a positive integer of at most"),
        ({"num_classes": True}, "num_classes=True: expected a positive integer of at most"),
        (
            {"in_channels": "3"},
            "in_channels='3': expected a positive integer of at most 100,000. Pass 3 for colour",
        ),
        ({"in_channels": 10**6}, "in_channels=1000000: expected a positive integer of at most"),
        ({"output_stride": 8.0}, "output_stride=8.0: resnet_v1_50 supports 4, 8, 16 or 32."),
        (
            {"output_stride": 64},
            "output_stride=64: resnet_v1_50 supports 4, 8, 16 or 32. Pass one of these, or None "
            "for 32.",
        ),
    ],
)
def test_arguments_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        spelled("slim/resnet_v1_50", **options)


def test_rows_that_do_not_fit_together_are_refused_when_planned() -> None:
    blocks = (Block("b1", 1, 8, 16, groups=8), Block("b2", 1, 8, 8))
    wide = Table("mine", (Conv("conv1", 6, 3),), blocks=blocks)
    with pytest.raises(TableError, match="row b2: the block reduces 16 channels to 8"):
        expand(wide, DIALECTS["paper-v1-a"], num_classes=2)
    even = Table("mine", (Conv("conv1", 6, 4),), blocks=blocks)
    with pytest.raises(TableError, match="row conv1: kernel=4 is even"):
        expand(even, DIALECTS["torchvision"], num_classes=2)
    odd = Block("b1", 1, 6, 16, groups=2, convs=((3, 1), (6, 3), (16, 1)))
    with pytest.raises(TableError, match="row b1: groups=2 does not divide both the 3 input"):
        expand(replace(wide, blocks=(odd,)), DIALECTS["torchvision"], num_classes=2)
