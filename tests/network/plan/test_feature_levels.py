from __future__ import annotations

import pytest

import forebear
from forebear.network.plan.feature_levels import FeatureInfo, levels
from tests.network.making import SMALL_ROOT, make, table


def test_feature_info_reads_as_timms() -> None:
    info = FeatureInfo(levels(make(dialect="slim-v1").plan), (0, 2))
    assert len(info) == 5
    assert info[0] == {"num_chs": 8, "reduction": 2, "module": "root.conv1", "index": 0}
    assert [one["module"] for one in info][2:] == ["block2.unit_2", "block3", "block4"]
    assert info.channels() == info.get("num_chs") == [8, 32]
    assert info.channels(4) == 128
    assert info.reduction((1, 4)) == [4, 48]
    assert info.module_name([1]) == ["block1.unit_1"]
    assert info.get_dicts(["module"], idx=3) == {"module": "block3"}
    assert info.get_dicts() == [info[0], info[2]]


@pytest.mark.long
def test_networks_of_other_shapes_have_levels_too() -> None:
    found = {}
    for name in ("slim/alexnet_v2", "torchvision/alexnet", "paper/resnet20"):
        plan = forebear.create(name, num_classes=None).plan
        found[name] = [(one.path, one.channels, one.reduction) for one in levels(plan)]
    assert found["torchvision/alexnet"] == [
        ("root.conv1", 64, 4),
        ("conv2", 192, 8),
        ("conv5", 256, 16),
        ("pool5", 256, 32),
    ]
    assert [one[0] for one in found["slim/alexnet_v2"]] == ["root.conv1", "conv2", "conv5", "pool5"]
    assert found["paper/resnet20"] == [
        ("root.conv1", 16, 1),
        ("block1", 16, 1),
        ("block2", 32, 2),
        ("block3", 64, 4),
    ]
    assert [one.path for one in levels(make(table(root=SMALL_ROOT), "keras-v2").plan)] == [
        "root.conv1",
        "block1.unit_1",
        "block2.unit_2",
        "block3",
        "block4",
    ]
