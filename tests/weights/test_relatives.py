from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import forebear
from forebear import WeightsError
from tests.weights.forms import saved

State = dict[str, Tensor]


def state() -> State:
    from forebear.weights.variable_names import pairs

    network = forebear.create("torchvision/resnet18", num_classes=3)
    return {pair.theirs: network.state_dict()[pair.ours] for pair in pairs(network.plan)}


@pytest.mark.parametrize(
    ("changes", "removed", "message"),
    [
        ({"layer1.0.se.conv_reduce.weight": (4, 64, 1, 1)}, (), "an SE-ResNet: squeeze"),
        ({"layer1.0.conv2.fc1.weight": (4, 64, 1, 1)}, ("layer1.0.conv2.",), "a ResNeSt: split"),
        ({"attnpool.q_proj.weight": (8, 8)}, ("fc.", "conv1."), "a ResNet of CLIP"),
        ({"conv1.3.weight": (32, 32, 3, 3)}, ("conv1.",), "a root of three layers"),
        ({"layer2.0.downsample.2.weight": (128,)}, (), "a ResNet-D: a pool before"),
        (
            {},
            ("layer2.0.downsample.",),
            "the nearest network is a resnet18 of dialect torchvision with 100 arrays: "
            "layer2.0.downsample.0.weight is missing, and 4 more arrays differ",
        ),
        (
            {"layer3.1.bn2.weight": (9,)},
            (),
            r"layer3.1.bn2.weight is \[9\] instead of \[256\]\. Expected",
        ),
        ({"layer3.2.other.weight": (9,)}, (), r"layer3.2.other.weight is not in it\. Expected"),
    ],
)
@pytest.mark.long(after=3)
def test_a_relative_is_named_with_what_differs(
    changes: dict[str, tuple[int, ...]], removed: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    content = {k: v for k, v in state().items() if not any(k.startswith(one) for one in removed)}
    content |= {name: torch.ones(shape) for name, shape in changes.items()}
    with pytest.raises(WeightsError, match=message):
        forebear.load(saved(tmp_path, content))


def test_nothing_is_said_of_arrays_of_anything_else(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"\(first array: 'a'\)\. Expected the weights"):
        forebear.load(saved(tmp_path, {"a": torch.ones(3)}))
