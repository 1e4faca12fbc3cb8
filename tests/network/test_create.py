"""Networks from names and tables: their initial weights, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import forebear


def test_networks_differ_by_seed_and_agree_by_generator() -> None:
    def first(seed: int) -> Tensor:
        draws = torch.Generator().manual_seed(seed)
        net = forebear.create("paper/resnet20", generator=draws)
        return net.get_parameter("root.conv1.conv.weight")

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output_stride": 12}, "output_stride=12: resnet_v1_50 supports 4, 8, 16 or 32. Pass one"),
        ({"num_classes": 0}, "num_classes=0: expected a positive integer of at most 100,000"),
        ({"in_channels": 0}, "in_channels=0"),
        ({"dialect": "slim-v3"}, "dialect='slim-v3' is unknown.*Did you mean slim-v"),
    ],
)
def test_impossible_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        forebear.create("slim/resnet_v1_50", **options)
