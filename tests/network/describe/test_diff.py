"""Comparisons: what is listed, and that the verdict is what the networks really do."""

from __future__ import annotations

import zlib
from dataclasses import replace
from functools import cache
from itertools import combinations

import pytest
import torch
from torch import Tensor

from forebear.network.describe.diff import Comparison, compare
from forebear.network.describe.equivalence import same_function
from forebear.network.network import Network
from forebear.network.plan.expand import expand
from forebear.network.plan.plan import Plan
from forebear.tables.dialects import DIALECTS, SLIM_V1, TORCHVISION_V1, Dialect
from forebear.tables.registry import NETWORKS, find
from forebear.tables.rows import Block, Conv, Form, Pool, Table


def tiny(form: Form = "bottleneck", *, pool: bool = True) -> Table:
    widen = 2 if form == "bottleneck" else 1
    root = (Conv("conv1", 4, 3), Pool("pool1")) if pool else (Conv("conv1", 4, 3),)
    blocks = (
        Block("block1", 2, 4, 4 * widen),
        Block("block2", 2, 6, 6 * widen, stride=2),
        Block("block3", 2, 8, 8 * widen, stride=2),
    )
    return Table("tiny", root, form, blocks, classes=5, image_size=32)


def planned(table: Table, dialect: Dialect) -> Plan:
    return expand(table, dialect, num_classes=table.classes)


def compared(first: str, second: str) -> Comparison:
    plans = [planned(*find(name)) for name in (first, second)]
    sizes = (plans[0].table.image_size, plans[1].table.image_size)
    return compare(plans[0], plans[1], sizes)


def drawn(key: str, shape: torch.Size) -> Tensor:
    """Values that depend on the array's name alone, so that every network is given the same."""
    generator = torch.Generator().manual_seed(zlib.crc32(key.encode()))
    if key.endswith("running_var"):
        return torch.rand(shape, generator=generator, dtype=torch.float64) * 0.01 + 1e-4
    return torch.randn(shape, generator=generator, dtype=torch.float64) * 0.5


@cache
def outputs(table: Table, dialect: Dialect) -> tuple[Tensor, ...]:
    """Logits of an even and an odd image; each bias before a norm is subtracted from its mean."""
    net = Network(planned(table, dialect)).double().eval()
    state = {
        key: drawn(key, value.shape) if value.is_floating_point() else value
        for key, value in net.state_dict().items()
    }
    for key in state:
        mean = key.replace("conv.bias", "norm.running_mean")
        if key.endswith("conv.bias") and mean in state:
            state[mean] = state[mean] + state[key]
    net.load_state_dict(state)
    with torch.inference_mode():
        pictures = [drawn(f"picture {side}", torch.Size((1, 3, side, side))) for side in (32, 37)]
        return tuple(net(picture) for picture in pictures)


def apart(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> float:
    return max(
        float((a - b).abs().max() / a.abs().max()) for a, b in zip(first, second, strict=True)
    )


@pytest.mark.parametrize(
    "table", [tiny(), tiny("basic"), tiny(pool=False)], ids=["bottleneck", "basic", "no pool"]
)
def test_the_verdict_on_every_pair_of_dialects_is_what_the_networks_do(table: Table) -> None:
    answers = set()
    for first, second in combinations(DIALECTS.values(), 2):
        verdict = same_function(planned(table, first), planned(table, second))
        distance = apart(outputs(table, first), outputs(table, second))
        pair = f"{first.name} and {second.name}: {verdict}, {distance:.1e} apart"
        answers.add(verdict.answer)
        if verdict.answer == "same":
            assert distance < 1e-9, pair
            assert not verdict.reasons
        if verdict.answer == "different":
            assert distance > 1e-9, pair
            assert verdict.reasons
    assert answers >= {"same", "different"}


def test_the_stride_of_slim_and_of_caffe_is_one_function() -> None:
    table = tiny()
    caffe = replace(SLIM_V1, strided_unit="first", strided_conv="conv1")
    verdict = same_function(planned(table, SLIM_V1), planned(table, caffe))
    assert verdict.answer == "same"
    assert "the strides are in different layers" in verdict.notes[0]
    later = replace(SLIM_V1, strided_unit="first")  # "v1.5"
    verdict = same_function(planned(table, SLIM_V1), planned(table, later))
    assert verdict.answer == "different"
    assert verdict.reasons == ("they subsample at different positions",)


def test_a_first_norm_at_another_place_cannot_be_judged_from_the_plan() -> None:
    first = DIALECTS["paper-v2"]  # norm and ReLU end the root; in the second they begin unit_1
    second = replace(first, root_norm=False, root_relu=False)
    verdict = same_function(planned(tiny(pool=False), first), planned(tiny(pool=False), second))
    assert verdict.answer == "unknown"
    assert verdict.reasons[0] == "their norms are in different layers"


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
