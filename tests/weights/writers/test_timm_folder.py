"""A folder for timm is read back bit for bit, and what timm cannot express is refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import forebear
from forebear import WeightsError
from forebear.tables.preprocessing import SLIM_VGG
from forebear.tasks.convert import convert
from forebear.weights.native_format import save
from forebear.weights.writers.timm_folder import write_timm

CLASSES = ("red fox", "barn owl", "tree frog")


def saved(path: Path, name: str = "timm/resnet18", **options: Any) -> forebear.Network:
    """Saves a network with random weights, and returns it."""
    torch.manual_seed(0)
    rule = options.pop("preprocessing", None)
    network: forebear.Network = forebear.create(name, num_classes=3, **options).eval()
    if rule is not None:
        network.card = replace(network.card, preprocessing=rule)
    save(network, path, classes=CLASSES)
    return network


@pytest.mark.parametrize("name", ["timm/resnet18", "torchvision/resnet18", "timm/resnetv2_18"])
def test_a_folder_is_read_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    network = saved(tmp_path / "a.safetensors", name)
    convert(tmp_path / "a.safetensors", tmp_path / "folder", to="timm")
    back = forebear.load(tmp_path / "folder")
    state = zip(network.state_dict().values(), back.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in state)
    assert back.classes == CLASSES
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 260, 3), np.uint8))
    assert torch.allclose(back.preprocess(image), network.preprocess(image), atol=1e-6)
    config = json.loads((tmp_path / "folder" / "config.json").read_text("utf-8"))
    assert config["architecture"] == name.partition("/")[2]
    assert config["label_names"] == list(CLASSES)


def test_grey_images_are_in_the_arguments(tmp_path: Path) -> None:
    rule = replace(
        forebear.create("timm/resnet18").preprocessing, order="L", mean=(0.5,), std=(0.2,)
    )
    saved(tmp_path / "a.safetensors", in_channels=1, preprocessing=rule)
    convert(tmp_path / "a.safetensors", tmp_path / "folder", to="timm")
    config = json.loads((tmp_path / "folder" / "config.json").read_text("utf-8"))
    assert config["model_args"] == {"in_chans": 1}
    assert config["pretrained_cfg"]["input_size"] == [1, 224, 224]
    back = forebear.load(tmp_path / "folder")
    assert (back.plan.in_channels, back.preprocessing) == (1, rule)


@pytest.mark.parametrize("side", [224, 225, 232, 256, 257, 300])
@pytest.mark.parametrize("resize", ["shorter", "square"])
def test_the_sides_of_a_resize_are_read_back(resize: str, side: int, tmp_path: Path) -> None:
    network = forebear.create("timm/resnet18", num_classes=3)
    side = 224 if resize == "square" else side
    rule = replace(network.preprocessing, resize=resize, side=side)  # type: ignore[arg-type]
    network.card = replace(network.card, preprocessing=rule)
    write_timm(tmp_path, "resnet18", network, {"a": np.zeros(1)})
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))["pretrained_cfg"]
    squash = config["crop_mode"] == "squash"
    assert squash == (resize == "square")
    assert math.floor(224 / config["crop_pct"]) == side  # as timm computes it


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"interpolation": "tf-bilinear"}, "interpolation='tf-bilinear'"),
        ({"resize": "central", "side": 224, "central": 0.875}, "resize='central'"),
        ({"order": "BGR"}, "--rewrite input"),
        ({"width": 300}, "224x300"),
        ({"levels": (0.0, 4095.0)}, "timm lacks"),
    ],
)
def test_what_timm_cannot_express_is_refused(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    network = forebear.create("timm/resnet18", num_classes=3)
    rule = replace(network.preprocessing, **changes)
    network.card = replace(network.card, preprocessing=rule)
    with pytest.raises(WeightsError, match=said):
        write_timm(tmp_path / "out", "resnet18", network, {"a": np.zeros(1)})
    assert not (tmp_path / "out").exists()


def test_a_preprocessing_on_pixels_is_scaled_to_timms(tmp_path: Path) -> None:
    rule = replace(SLIM_VGG, interpolation="bilinear")
    network = saved(tmp_path / "a.safetensors", preprocessing=rule)
    convert(tmp_path / "a.safetensors", tmp_path / "folder", to="timm")
    back = forebear.load(tmp_path / "folder")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 260, 3), np.uint8))
    network.card = replace(network.card, preprocessing=rule)
    assert torch.allclose(back.preprocess(image), network.preprocess(image), atol=1e-3)


def test_a_network_that_timm_does_not_publish_is_refused(tmp_path: Path) -> None:
    saved(tmp_path / "a.safetensors", "paper/resnet20")
    with pytest.raises(WeightsError, match="to='timm'"):
        convert(tmp_path / "a.safetensors", tmp_path / "folder", to="timm")
    assert not (tmp_path / "folder").exists()
