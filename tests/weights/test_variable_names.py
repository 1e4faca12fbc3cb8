"""Names and shapes are exactly the original libraries'."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import forebear
from forebear.weights.variable_names import pairs

SHARED = Path(__file__).parents[3] / "shared"
MANIFESTS = SHARED / "goldens" / "manifests"
NAMES = {
    "slim": "slim",
    "keras": "keras",
    "kerasapps": "keras",
    "torchvision": "torchvision",
    "timm": "timm",
    "cifar": "paper",
}


@pytest.mark.skipif(not MANIFESTS.is_dir(), reason="the manifests lie beside the repository")
@pytest.mark.parametrize("path", sorted(MANIFESTS.glob("*.json")), ids=lambda path: path.stem)
@pytest.mark.long(after=4)
def test_names_and_shapes_are_exactly_the_originals(path: Path) -> None:
    home, _, name = path.stem.partition("_")
    dialect = None
    if name.endswith("_optionB"):
        name, dialect = name.removesuffix("_optionB"), "paper-cifar-b"
    name = {"old_ResNet50": "ResNet50_old"}.get(name, name)
    with torch.device("meta"):
        net = forebear.create(f"{NAMES[home]}/{name}", dialect=dialect)
    theirs = {
        variable["name"].replace("probs/", "predictions/"): variable["shape"]
        for variable in json.loads(path.read_text())["variables"]
        if "_2_gconv" not in variable["name"]
    }
    assert {pair.theirs: list(pair.their_shape) for pair in pairs(net.plan)} == theirs


def test_resnet_v1_50_has_the_267_names_of_tf_slim() -> None:
    with torch.device("meta"):
        net = forebear.create("slim/resnet_v1_50")
    names = [pair.theirs for pair in pairs(net.plan)]
    assert len(set(names)) == len(names) == 267
    assert names[0] == "resnet_v1_50/conv1/weights"
    assert "resnet_v1_50/block4/unit_3/bottleneck_v1/conv3/BatchNorm/moving_variance" in names
    assert names[-1] == "resnet_v1_50/logits/biases"
