"""Comparisons: what is listed, and that the verdict is what the networks really do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from forebear.network.describe.diff import Comparison, compare
from forebear.network.describe.equivalence import same_function
from forebear.tables.dialects import SLIM_V1, TORCHVISION_V1
from forebear.tables.registry import NETWORKS, find
from forebear.tables.rows import Conv, Table
from tests.network.describe.making import planned, tiny


def compared(first: str, second: str) -> Comparison:
    plans = [planned(*find(name)) for name in (first, second)]
    sizes = (plans[0].table.image_size, plans[1].table.image_size)
    return compare(plans[0], plans[1], sizes)


def test_another_activation_is_another_function() -> None:
    plain = Table("plain", (), layers=(Conv("conv1", 8, 3), Conv("conv2", 8, 3)), classes=5)
    plans = [
        planned(replace(plain, activation=one), TORCHVISION_V1) for one in ("relu", "hardswish")
    ]
    verdict = same_function(*plans)
    assert verdict.answer == "different"
    assert verdict.reasons == ("their activation functions differ",)
    found = compare(plans[0], plans[1], (32, 32))
    assert [(row.what, row.first, row.second) for row in found.table] == [
        ("activation", "relu", "hardswish")
    ]
    assert not found.identical


def test_names_of_blocks_are_no_difference_of_function() -> None:
    table = tiny()
    renamed = replace(
        table, blocks=tuple(replace(block, name=f"stage_{block.name}") for block in table.blocks)
    )
    plans = planned(table, SLIM_V1), planned(renamed, SLIM_V1)
    assert same_function(*plans).answer == "same"
    assert [row.what for row in compare(*plans, (32, 32)).table] == [
        "block1 name",
        "block2 name",
        "block3 name",
    ]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_is_the_same_as_itself(name: str) -> None:
    found = compared(name, name)
    assert found.identical
    assert found.verdict.answer == "same"
    assert sum(cost.first for cost in found.costs) == found.multiply_adds[0]


def test_every_differing_answer_is_listed() -> None:
    listed = {row.what: row for row in compared("slim/resnet_v1_50", "keras/ResNet50").dialect}
    assert (listed["epsilon"].first, listed["epsilon"].second) == ("1e-5", "1.001e-5")
    assert listed["channel order"].second == "BGR"
    assert listed["bias before a norm"].matters
    assert not listed["bias without a norm"].matters  # no convolution there is without a norm
    assert not listed["shortcuts project"].matters  # channels change in each first unit
    assert "norm and ReLU" not in listed


def test_one_preprocessing_written_in_two_ways_is_no_difference() -> None:
    listed = {row.what for row in compared("slim/resnet_v2_50", "keras/ResNet50V2").dialect}
    assert not listed & {"scale", "mean", "std"}
    assert {"image size", "resize and crop", "interpolation"} <= listed


def test_rows_are_compared_by_field() -> None:
    found = compared("slim/alexnet_v2", "torchvision/alexnet")
    listed = {row.what: (row.first, row.second) for row in found.table}
    assert listed == {
        "conv1 padding": ("0", "2"),
        "conv4 channels": ("384", "256"),
        "fc6 kernel": ("5", "6"),
        "average": ("-", "average"),
    }
    assert found.verdict.answer == "different"
    assert found.verdict.reasons[0] == "their weights have different shapes"


def test_blocks_are_compared_by_field() -> None:
    found = compared("torchvision/resnet50", "torchvision/resnext101_32x8d")
    listed = {row.what: (row.first, row.second) for row in found.table}
    assert listed["block3 units"] == ("6", "23")
    assert listed["block1 groups"] == ("1", "32")
    assert listed["block4 width"] == ("512", "2048")
    longer = compared("paper/resnet20", "paper/resnet18_cifar")
    assert longer.table[-1].what == "block4"
    assert (longer.table[-1].first, longer.table[-1].second) == ("-", "2 units, 512 channels")


def test_costs_stand_by_part() -> None:
    found = compared("paper/resnet50", "torchvision/resnet50")
    costs = {cost.part: cost.second - cost.first for cost in found.costs}
    assert list(costs) == ["root", "block1", "block2", "block3", "block4", "head"]
    assert costs["block1"] == 0
    assert costs["block2"] == costs["block3"] == costs["block4"] == 77_070_336
    assert sum(costs.values()) == found.multiply_adds[1] - found.multiply_adds[0]


def test_each_network_is_counted_at_its_own_size() -> None:
    plans = planned(tiny(), SLIM_V1), planned(replace(tiny(), image_size=64), TORCHVISION_V1)
    found = compare(*plans, (32, 64))
    assert found.multiply_adds[1] > 3.5 * found.multiply_adds[0]
    with pytest.raises(ValueError, match="too small"):
        compare(*plans, (32, 0))
