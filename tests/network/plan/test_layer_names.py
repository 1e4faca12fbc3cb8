"""End points under the original libraries' names."""

from __future__ import annotations

import torch

import forebear
from forebear.network.plan.layer_names import original_end_points


def test_original_end_points_are_tf_slims_75_and_two_pools() -> None:
    with torch.device("meta"):
        net = forebear.create("slim/resnet_v1_50")
    ends = original_end_points(net.plan)
    assert len(ends) == 75 + 2
    assert ends["resnet_v1_50/block3/unit_2/bottleneck_v1/conv2"] == "block3.unit_2.conv2"
    assert ends["predictions"] == "predictions"
