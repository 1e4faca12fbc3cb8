"""The verdict on two networks is what the networks really do."""

from __future__ import annotations

import zlib
from dataclasses import replace
from functools import cache
from itertools import combinations

import pytest
import torch
from torch import Tensor

from forebear.network.describe.equivalence import same_function
from forebear.network.network import Network
from forebear.tables.dialects import DIALECTS, SLIM_V1, Dialect
from forebear.tables.rows import Table
from tests.network.describe.making import planned, tiny


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
        images = [drawn(f"image {side}", torch.Size((1, 3, side, side))) for side in (32, 37)]
        return tuple(net(image) for image in images)


def apart(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> float:
    return max(
        float((a - b).abs().max() / a.abs().max()) for a, b in zip(first, second, strict=True)
    )


@pytest.mark.parametrize(
    "table", [tiny(), tiny("basic"), tiny(pool=False)], ids=["bottleneck", "basic", "no pool"]
)
@pytest.mark.long(after=1)
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
