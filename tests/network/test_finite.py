"""Results that are not finite are refused, with the image and the array that cause them."""

from __future__ import annotations

import math

import pytest
import torch

from forebear import WeightsError
from forebear.network.finite import check_finite, first_not_finite
from tests.network.making import make

NAMES = ("a.png", "b\x1b.png", "c.png")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_first_image_without_finite_logits_is_named(value: float) -> None:
    net = make("paper/resnet20")
    logits = torch.zeros(3, 10)
    check_finite(net, logits, NAMES.__getitem__)
    logits[1, 4] = logits[2, 0] = value
    with pytest.raises(WeightsError) as caught:
        check_finite(net, logits, NAMES.__getitem__)
    assert str(caught.value) == (
        rf"'b\x1b.png': the results of resnet20 are not finite ({value}). Expected finite logits. "
        "All weights are finite, so their values or the preprocessing are too large. Pass other "
        "weights."
    )


def test_the_array_that_is_not_finite_is_named() -> None:
    net = make("paper/resnet20")
    assert first_not_finite(net) is None
    net.get_parameter("block2.unit_1.conv1.conv.weight").data[0, 0, 0, 0] = math.inf
    assert first_not_finite(net) == "block2.unit_1.conv1.conv.weight"
    with pytest.raises(WeightsError, match=r"Its array block2\.unit_1\.conv1\.conv\.weight is not"):
        check_finite(net, torch.tensor([math.nan]), NAMES.__getitem__)
