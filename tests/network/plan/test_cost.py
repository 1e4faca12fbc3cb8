"""Counts, costs and receptive fields: the published numbers, to the last digit."""

from __future__ import annotations

import pytest
import torch

import forebear
from forebear import Block, Conv, Table, TableError
from forebear.network.plan.cost import check_map, measure, parameters, smallest_side
from forebear.network.plan.expand import expand
from forebear.network.plan.plan import Plan
from forebear.tables.dialects import DIALECTS, TORCHVISION_V1
from forebear.tables.registry import find
from forebear.tables.rows import Average
from tests.tables.making import spelled

# Trainable and all values; the peers' own counts by instantiating each model.
COUNTS = {
    "slim/alexnet_v2": (50_303_912, 50_303_912),
    "slim/resnet_v1_50": (25_557_032, 25_610_152),
    "slim/resnet_v1_101": (44_549_160, 44_654_504),
    "slim/resnet_v1_152": (60_192_808, 60_344_232),
    "slim/resnet_v1_200": (64_673_832, 64_849_832),
    "slim/resnet_v2_50": (25_568_360, 25_613_800),
    "slim/resnet_v2_101": (44_577_896, 44_675_560),
    "slim/resnet_v2_152": (60_236_904, 60_380_648),
    "slim/resnet_v2_200": (64_726_120, 64_894_440),
    "keras/ResNet50": (25_583_592, 25_636_712),
    "keras/ResNet50_old": (25_583_592, 25_636_712),
    "keras/ResNet101": (44_601_832, 44_707_176),
    "keras/ResNet152": (60_268_520, 60_419_944),
    "keras/ResNet50V2": (25_568_360, 25_613_800),
    "keras/ResNet101V2": (44_577_896, 44_675_560),
    "keras/ResNet152V2": (60_236_904, 60_380_648),
    "keras/ResNeXt50": (25_028_904, 25_097_128),
    "keras/ResNeXt101": (44_177_704, 44_315_560),
    "torchvision/alexnet": (61_100_840, 61_100_840),
    "torchvision/resnet18": (11_689_512, 11_699_112),
    "torchvision/resnet34": (21_797_672, 21_814_696),
    "torchvision/resnet50": (25_557_032, 25_610_152),
    "torchvision/resnet101": (44_549_160, 44_654_504),
    "torchvision/resnet152": (60_192_808, 60_344_232),
    "torchvision/resnext50_32x4d": (25_028_904, 25_097_128),
    "torchvision/resnext101_32x8d": (88_791_336, 88_994_216),
    "torchvision/resnext101_64x4d": (83_455_272, 83_658_152),
    "torchvision/wide_resnet50_2": (68_883_240, 68_951_464),
    "torchvision/wide_resnet101_2": (126_886_696, 127_024_552),
    "timm/resnet200": (64_673_832, 64_849_832),
    "timm/resnext101_32x4d": (44_177_704, 44_315_560),
    "timm/resnetv2_18": (11_687_720, 11_695_528),
    "timm/resnetv2_34": (21_795_880, 21_811_112),
    "timm/resnetv2_50": (25_549_352, 25_594_792),
    "timm/resnetv2_101": (44_541_480, 44_639_144),
    "timm/resnetv2_152": (60_185_128, 60_328_872),
    "paper/resnet20": (269_722, 271_098),
    "paper/resnet32": (464_154, 466_426),
    "paper/resnet44": (658_586, 661_754),
    "paper/resnet56": (853_018, 857_082),
    "paper/resnet110": (1_727_962, 1_736_058),
}


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_are_the_peers_to_the_last_digit(name: str) -> None:
    assert parameters(spelled(name)) == COUNTS[name]


def test_option_b_and_the_background_class_add_what_they_should() -> None:
    assert parameters(
        expand(find("paper/resnet20").table, DIALECTS["paper-cifar-b"], num_classes=10)
    ) == (272_474, 274_042)
    more = parameters(spelled("slim/resnet_v2_50", num_classes=1001))[0]
    assert more - COUNTS["slim/resnet_v2_50"][0] == 2_049


@pytest.mark.parametrize(
    ("name", "giga"),
    [
        ("slim/resnet_v1_50", 3.482),
        ("keras/ResNet50", 3.858),
        ("torchvision/resnet50", 4.089),
        ("slim/resnet_v1_200", 14.401),
        ("timm/resnet200", 15.007),
        ("torchvision/alexnet", 0.714),
        ("paper/resnet20", 0.041),
    ],
)
def test_multiply_adds_at_the_published_size(name: str, giga: float) -> None:
    rows = measure(spelled(name), find(name).table.image_size)
    assert round(sum(r.multiply_adds for r in rows if r.kind != "unit") / 1e9, 3) == giga


def test_receptive_fields_are_those_known_of_the_plain_networks() -> None:
    fields_of = {
        row.path: row.receptive_field for row in measure(spelled("torchvision/resnet18"), 224)
    }
    assert (fields_of["root.conv1"], fields_of["root.pool1"]) == (7, 11)
    assert fields_of["block4.unit_2"] == 435
    assert fields_of["logits"] is None


def test_counts_of_the_plan_are_those_of_the_modules() -> None:
    from forebear.network.plan.cost import parameters

    for name in ("slim/alexnet_v2", "keras/ResNet50", "timm/resnetv2_18", "paper/resnet20"):
        with torch.device("meta"):
            net = forebear.create(name)
        trainable = sum(p.numel() for p in net.parameters())
        moving = sum(b.numel() for k, b in net.named_buffers() if "num_batches" not in k)
        assert parameters(net.plan) == (trainable, trainable + moving)


def empty(plan: Plan, side: int) -> bool:
    """Whether a feature map of an image is empty, layer by layer."""
    sides = [side]
    units = (layer for unit in plan.units() for layer in unit.convs)
    for layer in (*plan.root, *plan.body, *units):
        sides.append(layer.out_side(sides[-1]))
    return min(sides) < 1


@pytest.mark.parametrize(
    ("network", "output_stride"),
    [
        ("torchvision/alexnet", None),
        ("slim/alexnet_v2", None),
        ("slim/alexnet_v2", 4),
        ("slim/resnet_v1_50", 8),
        ("keras/ResNet50V2", None),
        ("paper/resnet20", 1),
    ],
)
def test_the_smallest_side_is_the_first_without_an_empty_map(
    network: str, output_stride: int | None
) -> None:
    plan = spelled(network, output_stride=output_stride)
    side = smallest_side(plan)
    assert not empty(plan, side)
    assert all(empty(plan, smaller) for smaller in range(1, side))


def test_a_network_that_no_image_fits_is_refused() -> None:
    rows = (Conv("conv1", 4, 3), Average("average", 1), Conv("conv2", 4, 7, padding=0))
    with pytest.raises(TableError, match="^row average: no input is large enough for the layers"):
        expand(Table("mine", (), layers=rows), TORCHVISION_V1, num_classes=2)
    convs = (Conv("conv1", 4, 999, 1000, padding=0), Conv("conv2", 4, 999, padding=0))
    with pytest.raises(TableError, match="^row conv1: no input of 8,192 pixels or fewer is large"):
        expand(Table("mine", (), layers=convs), TORCHVISION_V1, num_classes=2)
    with pytest.raises(TableError, match="Correct the table, or pass a larger output_stride."):
        spelled("torchvision/alexnet", output_stride=4)  # the search for a size did not end


def test_strides_and_values_have_upper_limits() -> None:
    blocks = tuple(Block(f"b{number}", 1, 8, 8, 1000) for number in range(5_000))
    with pytest.raises(TableError, match=r"^mine: its strides multiply to 1,000,000 or more"):
        expand(Table("mine", (), blocks=blocks), TORCHVISION_V1, num_classes=2)
    wide = (Block("b1", 1, 100_000, 100_000),)
    with pytest.raises(
        TableError, match=r"^mine: the network has 100,002,400,002 values. Expected at most"
    ):
        expand(Table("mine", (), blocks=wide), TORCHVISION_V1, num_classes=2)


def test_a_small_network_may_not_have_huge_maps() -> None:
    small = spelled("paper/resnet20")
    check_map(small, 2048)
    with pytest.raises(
        ValueError, match=r"^size=8192: .* makes 1,073,741,824 values at root.conv1"
    ):
        check_map(small, 8192)
    check_map(spelled("torchvision/resnet50"), 4096)
    check_map(spelled("torchvision/alexnet"), 8)  # too small: the network itself refuses it
    coarse = Table("mine", (), layers=(Conv("conv1", 1, 3, 8),))
    with pytest.raises(ValueError, match="makes 201,326,592 values at the input"):
        check_map(expand(coarse, TORCHVISION_V1, num_classes=2), 8192)
