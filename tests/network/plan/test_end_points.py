"""End points: their planned order and shapes are the real ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from forebear.network.plan.cost import measure
from forebear.network.plan.end_points import end_points
from tests.network.making import make

IMAGES = torch.randn(2, 3, 65, 48, generator=torch.Generator().manual_seed(1))
DIALECTS = [
    "slim-v1",
    "slim-v2",
    "keras-v2",
    "keras-lists",
    "torchvision",
    "paper-v2",
    "paper-cifar",
]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("options", [{}, {"output_stride": 8, "global_pool": False}])
def test_real_end_points_have_the_planned_shapes(dialect: str, options: dict[str, Any]) -> None:
    net = make(dialect=dialect, num_classes=7, **options)
    with torch.inference_mode():
        found = net.end_points(IMAGES)
    planned = {row.path: row.shape for row in measure(net.plan, 65, 48)}
    assert list(found) == end_points(net.plan)
    for path, tensor in found.items():
        if path in planned:
            assert tuple(tensor.shape[1:]) == planned[path][: tensor.ndim - 1], path
