"""A folder for transformers is read back bit for bit, and what it cannot hold is refused.

The peer test compares with transformers itself: logits, and classes of its pipeline.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import forebear
from forebear import WeightsError
from forebear.tables.dialects import TIMM_PREACT, TIMM_V1, Dialect
from forebear.tables.rows import Block, Conv, Pool, Table
from forebear.tasks.convert import convert
from forebear.weights.writers.transformers_folder import write_transformers
from tests.weights.writers.making import random_network

ROOT = (Conv("conv1", 8, 7, stride=2), Pool("pool1"))
BASIC = Table("t", ROOT, "basic", (Block("b1", 1, 8, 8), Block("b2", 2, 12, 12, 2)), classes=3)
BOTTLENECK = replace(
    BASIC, form="bottleneck", blocks=(Block("b1", 1, 4, 16), Block("b2", 2, 6, 24, 2))
)
WIDE = replace(BOTTLENECK, blocks=(Block("b1", 1, 8, 16), Block("b2", 2, 12, 24, 2)))
STRIDED = replace(BASIC, blocks=(Block("b1", 1, 8, 8, 2), Block("b2", 2, 12, 12, 2)))
CONV1 = replace(TIMM_V1, name="conv1", strided_conv="conv1")
CLASSES = ("red fox", "barn owl", "tree frog")


def initial(
    table: Table = BASIC,
    dialect: Dialect = TIMM_V1,
    num_classes: int | None = 3,
    **card: Any,
) -> forebear.Network:
    network = random_network(table, dialect, num_classes)
    classes = CLASSES if num_classes else ()
    network.card = replace(network.card, classes=classes, **card)
    return network.eval()


@pytest.mark.parametrize(
    ("table", "dialect"),
    [(BASIC, TIMM_V1), (STRIDED, TIMM_V1), (BOTTLENECK, TIMM_V1), (BOTTLENECK, CONV1)],
)
def test_a_folder_is_read_back_bit_for_bit(table: Table, dialect: Dialect, tmp_path: Path) -> None:
    network = initial(table, dialect)
    write_transformers(tmp_path, network)
    back = forebear.load(tmp_path)
    state = network.state_dict().values()
    assert all(torch.equal(a, b) for a, b in zip(state, back.state_dict().values(), strict=True))
    images = torch.rand(2, 3, 65, 50)
    with torch.inference_mode():
        assert torch.equal(back(images), network(images))
    assert back.classes == CLASSES
    assert back.preprocessing == network.preprocessing


def test_a_warped_square_is_read_back(tmp_path: Path) -> None:
    rule = replace(TIMM_V1.preprocessing, size=48, side=48, resize="square")
    write_transformers(tmp_path, initial(preprocessing=rule))
    assert forebear.load(tmp_path).preprocessing == rule


def test_the_config_names_the_network_and_its_classes(tmp_path: Path) -> None:
    network = initial(BOTTLENECK, CONV1)
    assert write_transformers(tmp_path, network) == len(network.state_dict())
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    assert config["architectures"] == ["ResNetForImageClassification"]
    assert (config["depths"], config["hidden_sizes"]) == ([1, 2], [16, 24])
    assert (config["downsample_in_bottleneck"], config["downsample_in_first_stage"]) == (
        True,
        False,
    )
    assert config["id2label"] == {"0": "red fox", "1": "barn owl", "2": "tree frog"}


def test_a_network_without_logits_becomes_the_librarys_backbone(tmp_path: Path) -> None:
    write_transformers(tmp_path, forebear.create(BASIC, dialect=TIMM_V1, num_classes=None))
    with forebear.read_arrays(tmp_path) as arrays:
        assert "embedder.embedder.convolution.weight" in arrays
    assert forebear.load(tmp_path).plan.num_classes is None


@pytest.mark.parametrize(
    ("network", "named"),
    [
        ("torchvision/alexnet", "alexnet has no residual blocks"),
        ("keras/ResNet50", "resnet50 in dialect keras-v1"),
        ((BOTTLENECK, replace(TIMM_V1, norm_eps=1e-3)), "in dialect timm differs there"),
        ((BOTTLENECK, TIMM_PREACT), "in dialect timm-v2 differs there"),
        ((BASIC, replace(TIMM_V1, conv_padding="same")), "in dialect timm differs there"),
        ((WIDE, TIMM_V1), "their weights have different shapes"),
    ],
)
def test_another_function_is_refused_with_the_reason(
    network: Any, named: str, tmp_path: Path
) -> None:
    given = forebear.create(network) if isinstance(network, str) else initial(*network)
    with pytest.raises(WeightsError) as caught:
        write_transformers(tmp_path / "out", given)
    assert named.lower() in str(caught.value).lower()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"order": "BGR"}, "channel order BGR. Expected"),
        ({"interpolation": "tf-bilinear"}, "interpolation='tf-bilinear'"),
        ({"resize": "none", "side": 224}, "resize='none'"),
    ],
)
def test_another_preprocessing_is_refused(
    changes: dict[str, Any], named: str, tmp_path: Path
) -> None:
    rule = replace(TIMM_V1.preprocessing, **changes)
    with pytest.raises(WeightsError, match=named):
        write_transformers(tmp_path / "out", initial(preprocessing=rule))


def test_convert_writes_the_folder_and_keeps_an_old_one(tmp_path: Path) -> None:
    source, target = tmp_path / "net.safetensors", tmp_path / "out"
    forebear.save(initial(), source)
    done = convert(source, target, to="transformers")
    assert (done.network, done.arrays) == ("t", 50)
    with pytest.raises(WeightsError, match="the file exists"):
        convert(source, target, to="transformers")
    convert(source, target, to="transformers", replace=True)
    assert sorted(path.name for path in target.iterdir()) == [
        "config.json", "model.safetensors", "preprocessor_config.json",
    ]  # fmt: skip
    with pytest.raises(WeightsError, match="the folder cannot be made"):
        write_transformers(source, initial())


@pytest.mark.peer
def test_transformers_gives_the_same_logits_and_classes(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    network = initial(BOTTLENECK, CONV1)
    write_transformers(tmp_path, network)
    theirs = transformers.AutoModelForImageClassification.from_pretrained(tmp_path).eval()
    noise = np.random.default_rng(0).integers(0, 256, (300, 260, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    pixels = network.preprocess(image)
    with torch.inference_mode():
        ours = network(pixels)
        assert (theirs(pixels).logits - ours).abs().max() < 1e-5
    classify = transformers.pipeline("image-classification", model=str(tmp_path))
    assert classify(image)[0]["label"] == network.classes[int(ours.argmax())]


@pytest.mark.peer
@pytest.mark.parametrize(
    ("table", "dialect"),
    [(BASIC, TIMM_V1), (STRIDED, TIMM_V1), (BOTTLENECK, TIMM_V1), (BOTTLENECK, CONV1)],
)
@pytest.mark.parametrize("classes", [3, None])
def test_auto_backbone_gives_the_same_feature_maps(
    table: Table, dialect: Dialect, classes: int | None, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    network = initial(table, dialect, num_classes=classes)
    write_transformers(tmp_path / "ours", network)
    stages = ["stem", "stage1", "stage2"]
    config = transformers.AutoConfig.from_pretrained(tmp_path / "ours", out_features=stages)
    # AutoBackbone.from_pretrained of transformers 5.24 asks the Hub for the folder, and fails.
    kind = type(transformers.AutoBackbone.from_config(config))
    theirs = kind.from_pretrained(tmp_path / "ours", config=config).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    images = torch.rand(2, 3, 65, 50)
    with torch.inference_mode():
        maps = theirs(images).feature_maps
        for path in (tmp_path / "ours", tmp_path / "theirs"):
            ours = forebear.load(path, features_only=True, out_indices=(0, 1, 2))(images)
            ours[0] = torch.nn.functional.max_pool2d(ours[0], 3, 2, 1)  # theirs is pooled
            for one, other in zip(ours, maps, strict=True):
                assert one.shape == other.shape
                assert (one - other).abs().max() < 1e-5 * other.abs().max()
    back = forebear.load(tmp_path / "theirs")
    assert back.plan.num_classes is None
    assert back.card.provenance["network"] == "transformers/resnet"
