"""A KerasHub preset is read back bit for bit, and what ResNetBackbone cannot hold is refused.

tests/peers/test_kerashub.py compares with KerasHub itself.
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import forebear
from forebear import WeightsError
from forebear.tables.dialects import TIMM_PREACT, TIMM_PREACT_BASIC, TIMM_V1, Dialect
from forebear.tables.rows import Block, Conv, Pool, Table
from forebear.tasks.convert import convert
from forebear.weights.writers.kerashub_folder import write_kerashub
from tests.weights.writers.making import random_network

h5py = pytest.importorskip("h5py")

ROOT = (Conv("conv1", 64, 7, stride=2), Pool("pool1"))
BASIC = Table("t", ROOT, "basic", (Block("b1", 1, 64, 64), Block("b2", 2, 8, 8, 2)), classes=3)
BOTTLENECK = replace(
    BASIC, form="bottleneck", blocks=(Block("b1", 1, 64, 256), Block("b2", 2, 6, 24, 2))
)
RULE = replace(TIMM_V1.preprocessing, size=48, side=48)
NARROW = replace(BOTTLENECK, blocks=(Block("b1", 1, 32, 128), Block("b2", 2, 6, 24, 2)))
WIDE = replace(BOTTLENECK, blocks=(Block("b1", 1, 64, 128), Block("b2", 2, 6, 24, 2)))
THIN_ROOT = replace(BASIC, root=(Conv("conv1", 32, 7, stride=2), Pool("pool1")))
LEVEL = replace(BASIC, blocks=(Block("b1", 1, 64, 64), Block("b2", 1, 64, 64)))
CASES = [
    (BASIC, TIMM_V1),
    (BOTTLENECK, TIMM_V1),
    (BASIC, TIMM_PREACT_BASIC),
    (BOTTLENECK, TIMM_PREACT),
]


def initial(
    table: Table = BOTTLENECK,
    dialect: Dialect = TIMM_V1,
    num_classes: int | None = 3,
    **card: Any,
) -> forebear.Network:
    network = random_network(table, dialect, num_classes)
    network.card = replace(network.card, **{"preprocessing": RULE, **card})
    return network.eval()


@pytest.mark.parametrize(("table", "dialect"), CASES)
def test_a_preset_is_read_back_bit_for_bit(table: Table, dialect: Dialect, tmp_path: Path) -> None:
    network = initial(table, dialect)
    assert write_kerashub(tmp_path, network) == sum(
        "num_batches" not in name for name in network.state_dict()
    )
    back = forebear.load(tmp_path)
    images = torch.rand(2, 3, 65, 50)
    with torch.inference_mode():
        assert torch.equal(back(images), network(images))
    assert back.card.provenance["network"].startswith("kerashub/")
    assert back.preprocessing == RULE


def test_the_files_are_those_of_the_library(tmp_path: Path) -> None:
    write_kerashub(tmp_path, initial())
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json", "image_converter.json", "metadata.json", "model.weights.h5",
        "preprocessor.json", "task.json", "task.weights.h5",
    ]  # fmt: skip
    config, task, converter = (
        json.loads((tmp_path / f"{name}.json").read_text("utf-8"))["config"]
        for name in ("config", "task", "image_converter")
    )
    assert config["stackwise_num_filters"] == [64, 6]
    assert config["stackwise_num_blocks"] == [1, 2]
    assert config["stackwise_num_strides"] == [1, 2]
    assert (config["block_type"], config["use_pre_activation"]) == ("bottleneck_block", False)
    assert (task["num_classes"], task["activation"], task["backbone"]["config"]) == (
        3,
        None,
        config,
    )
    assert task["preprocessor"]["config"]["image_converter"]["config"] == converter
    assert converter["antialias"]
    assert converter["scale"] == [1 / 255 / std for std in RULE.std]


@pytest.mark.parametrize(
    ("table", "dialect", "convs", "norms"),
    [
        (BASIC, TIMM_V1, ["1", "0", "2"], ["1", "0", "2"]),
        (BOTTLENECK, TIMM_V1, ["1", "2", "0", "3"], ["1", "2", "0", "3"]),
        (BOTTLENECK, TIMM_PREACT, ["1", "2", "0", "3"], ["pre_activation", "1", "2"]),
    ],
)
def test_layers_are_numbered_in_the_order_of_the_library(
    table: Table, dialect: Dialect, convs: list[str], norms: list[str], tmp_path: Path
) -> None:
    """The order in files that keras_hub 0.32.0 wrote, which it reads by number, not by name."""
    write_kerashub(tmp_path, initial(table, dialect))
    with h5py.File(tmp_path / "model.weights.h5") as file:
        for kind, part, wanted in (("conv2d", "conv", convs), ("batch_normalization", "bn", norms)):
            keys = [kind, *(f"{kind}_{number}" for number in range(1, 20))]
            layers = file["layers"]
            named = [layers[key]["vars"].attrs["name"] for key in keys if key in layers]
            unit = [name for name in named if name.startswith("stack1_block0_")]
            assert unit == [f"stack1_block0_{one}_{part}" for one in wanted]


def test_a_network_without_logits_becomes_a_backbone(tmp_path: Path) -> None:
    write_kerashub(tmp_path, initial(num_classes=None))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json", "image_converter.json", "metadata.json", "model.weights.h5",
    ]  # fmt: skip
    assert forebear.load(tmp_path).plan.num_classes is None


@pytest.mark.parametrize(
    ("network", "named"),
    [
        ("torchvision/alexnet", "has no residual blocks"),
        ("torchvision/resnext50_32x4d", "has the width 128, and the backbone accepts 64 only"),
        ("keras/ResNet50", "they subsample at different positions; epsilon is 1.001e-5"),
        ((NARROW, TIMM_V1), "has the width 32, and the backbone accepts 64 only"),
        ((WIDE, TIMM_V1), "their weights have different shapes"),
        ((BOTTLENECK, replace(TIMM_V1, norm_eps=1e-3)), "epsilon is 0.001"),
        ((BOTTLENECK, replace(TIMM_V1, strided_conv="conv1")), "subsample at different positions"),
        ((BASIC, replace(TIMM_V1, conv_padding="same")), "in dialect timm differs there"),
        ((THIN_ROOT, TIMM_V1), "its projections are in other units"),
        ((LEVEL, TIMM_V1), "its projections are in other units"),
    ],
)
def test_another_function_is_refused_with_the_reason(
    network: Any, named: str, tmp_path: Path
) -> None:
    given = forebear.create(network) if isinstance(network, str) else initial(*network)
    with pytest.raises(WeightsError) as caught:
        write_kerashub(tmp_path / "out", given)
    assert named in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"order": "BGR"}, "its channel order is BGR"),
        ({"interpolation": "tf-bilinear"}, "its interpolation is tf-bilinear"),
        ({"resize": "none"}, "it has resize='none'"),
        ({"side": 56}, "it resizes the shorter side to 56 pixels and crops 48"),
        ({"width": 64}, "its input has 48x64 pixels"),
    ],
)
def test_another_preprocessing_is_left_out_with_a_warning(
    changes: dict[str, Any], named: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        write_kerashub(tmp_path, initial(preprocessing=replace(RULE, **changes)))
    assert named in caplog.text
    assert json.loads((tmp_path / "task.json").read_text("utf-8"))["config"]["preprocessor"] is None
    assert not (tmp_path / "preprocessor.json").exists()
    assert "there is no image_converter.json" in forebear.load(tmp_path).card.provenance["notes"]


def test_convert_writes_the_preset_and_keeps_an_old_one(tmp_path: Path) -> None:
    source, target = tmp_path / "net.safetensors", tmp_path / "out"
    forebear.save(initial(), source)
    done = convert(source, target, to="kerashub")
    with forebear.read_arrays(target) as arrays:
        assert (done.network, done.arrays) == ("t", len(arrays))
    with pytest.raises(WeightsError, match="the file exists"):
        convert(source, target, to="kerashub")
    convert(source, target, to="kerashub", replace=True)
    with pytest.raises(WeightsError, match="the folder cannot be made"):
        write_kerashub(source, initial())
