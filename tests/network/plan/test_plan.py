"""The records of a plan: sides, strides, channels and the order of the layers."""

from __future__ import annotations

from typing import Literal

import pytest

from forebear.network.plan.plan import Layer
from tests.tables.making import spelled


def windows(side: int, kernel: int, stride: int, rate: int, padding: int) -> int:
    """The windows that fit, counted one by one."""
    last = side + padding - rate * (kernel - 1)
    return len(range(-padding, last, stride))


@pytest.mark.parametrize("rate", [1, 2, 4])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(("kernel", "padding"), [(1, 0), (3, 0), (3, 1), (5, 2), (7, 3)])
def test_a_layer_gives_out_a_value_for_every_window_that_fits(
    kernel: int, padding: int, stride: int, rate: int
) -> None:
    layer = Layer(
        path="x",
        kind="conv",
        in_channels=1,
        channels=1,
        kernel=kernel,
        stride=stride,
        rate=rate,
        padding=padding,
    )
    for side in range(1, 40):
        assert layer.out_side(side) == windows(side, kernel, stride, rate, padding * rate), side
    for wanted in range(1, 5):
        fits = (side for side in range(1, 100) if layer.out_side(side) >= wanted)
        assert layer.in_side(wanted) == next(fits)


@pytest.mark.parametrize(
    ("kind", "padding", "side", "found"),
    [
        ("conv", "same", 9, 5),
        ("conv", "same", 8, 4),
        ("identity", 0, 9, 5),
        ("mean", 0, 9, 1),
        ("average", 0, 9, 6),
    ],
)
def test_other_kinds_have_sides_of_their_own(
    kind: Literal["conv", "identity", "mean", "average"],
    padding: int | Literal["same"],
    side: int,
    found: int,
) -> None:
    layer = Layer(
        path="a.b.c",
        kind=kind,
        in_channels=1,
        channels=1,
        kernel=3,
        stride=2,
        padding=padding,
        side=6 if kind == "average" else 0,
    )
    assert layer.out_side(side) == found
    assert layer.name == "c"


def test_layers_come_in_the_order_in_which_they_run() -> None:
    plan = spelled("slim/resnet_v2_50")
    paths = [layer.path for layer in plan.layers()]
    first = ["preact", "shortcut", "conv1", "conv2", "conv3"]
    assert paths[:7] == ["root.conv1", "root.pool1", *(f"block1.unit_1.{name}" for name in first)]
    assert paths[-3:] == ["postnorm", "pool", "logits"]
    assert len(paths) == len(set(paths)) == 2 + 16 * 5 + 3


@pytest.mark.parametrize(
    ("name", "options", "stride", "features"),
    [
        ("slim/resnet_v1_50", {}, 32, 2048),
        ("slim/resnet_v1_50", {"output_stride": 8}, 8, 2048),
        ("slim/resnet_v1_50", {"include_root": False}, 8, 2048),
        ("slim/resnet_v2_50", {}, 32, 2048),
        ("torchvision/resnet18", {}, 32, 512),
        ("paper/resnet20", {}, 4, 64),
        ("slim/alexnet_v2", {}, 32, 4096),
    ],
)
def test_a_plan_knows_its_stride_and_its_features(
    name: str, options: dict[str, object], stride: int, features: int
) -> None:
    plan = spelled(name, **options)
    assert (plan.stride, plan.features) == (stride, features)


def test_a_unit_knows_its_stride_channels_and_last_relu() -> None:
    first, *_, last = next(iter(spelled("slim/resnet_v1_50").blocks))[1]
    assert (first.stride, first.channels, last.stride, last.channels) == (1, 256, 2, 256)
    assert first.relu
    assert not first.convs[-1].relu
    assert first.convs[0].relu
