"""A preset of KerasHub gives KerasHub's own logits.

The presets here have KerasHub's two files, its names and its config. They are compared with
torchvision's and timm's networks of the same weights, which KerasHub's authors ported. The presets
that keras_hub 0.32.0 wrote, with its own logits, are beside the repository.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import forebear
from forebear import WeightsError
from forebear.tables.dialects import TIMM_PREACT, TIMM_V1
from forebear.tables.rows import Block, Conv, Pool, Table
from forebear.weights.kerashub_resnet import KERASHUB_V1, KERASHUB_V1_BASIC, KERASHUB_V2
from forebear.weights.variable_names import pairs
from forebear.weights.writers.keras import Layer, write_keras
from tests.weights.readers.making import damaged

pytest.importorskip("h5py")

SHARED = Path(__file__).parents[3] / "shared" / "goldens" / "families"
ROOT = (Conv("conv1", 8, 7, stride=2), Pool("pool1"))
BOTTLENECK = (Block("block1", 1, 4, 16), Block("block2", 2, 6, 24, stride=2))
BASIC = (Block("block1", 1, 8, 8), Block("block2", 2, 12, 12, stride=2))
CONFIG = {
    "input_conv_filters": [8],
    "input_conv_kernel_sizes": [7],
    "stackwise_num_filters": [4, 6],
    "stackwise_num_blocks": [1, 2],
    "stackwise_num_strides": [1, 2],
    "block_type": "bottleneck_block",
    "use_pre_activation": False,
}
CONVERTER = {
    "image_size": [48, 48],
    "scale": [1 / 255 / 0.229, 1 / 255 / 0.224, 1 / 255 / 0.225],
    "offset": [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225],
    "interpolation": "bicubic",
    "crop_to_aspect_ratio": True,
}


def initial(form: Any, blocks: tuple[Block, ...], dialect: forebear.Dialect) -> forebear.Network:
    torch.manual_seed(0)
    network = forebear.create(Table("resnet", ROOT, form, blocks, classes=5), dialect=dialect)
    for name, one in network.state_dict().items():
        if "num_batches" not in name:
            one.copy_(torch.rand_like(one) + 0.2 if "var" in name else 0.3 * torch.randn_like(one))
    return network.eval()


def layers(network: forebear.Network, *, head: bool) -> list[Layer]:
    kinds = {"gamma": "BatchNormalization", "kernel": "Conv2D", "bias": "Dense"}
    found: dict[str, list[tuple[str, Any]]] = {}
    state = network.state_dict()
    for pair in pairs(network.plan, "kerashub"):
        layer, _, weight = pair.theirs.rpartition("/")
        if (layer == "predictions") == head:
            array = np.ascontiguousarray(pair.layout.store(state[pair.ours].numpy()))
            found.setdefault(layer, []).append((weight, array))
    return [(name, "Dense" if head else kinds[held[0][0]], held) for name, held in found.items()]


def written(path: Path, name: str, config: Any) -> None:
    (path / name).write_text(json.dumps(config))


def preset(path: Path, network: forebear.Network, **changes: Any) -> Path:
    """Writes a network as KerasHub does: the backbone and the head in a file each."""
    path.mkdir(exist_ok=True)
    backbone = {"class_name": "ResNetBackbone", "registered_name": "keras_hub>ResNetBackbone"}
    written(path, "config.json", backbone | {"config": CONFIG | changes})
    written(path, "task.json", {"config": {"num_classes": 5, "pooling": "avg"}})
    written(path, "image_converter.json", {"config": CONVERTER})
    write_keras(path / "model.weights.h5", layers(network, head=False), replace=True)
    write_keras(path / "task.weights.h5", layers(network, head=True), replace=True)
    return path


@pytest.mark.parametrize(
    ("form", "blocks", "written_as", "same_as", "changes"),
    [
        ("bottleneck", BOTTLENECK, KERASHUB_V1, replace(TIMM_V1, shortcut="first"), {}),
        (
            "basic",
            BASIC,
            KERASHUB_V1_BASIC,
            TIMM_V1,
            {"block_type": "basic_block", "stackwise_num_filters": [8, 12]},
        ),
        ("bottleneck", BOTTLENECK, KERASHUB_V2, TIMM_PREACT, {"use_pre_activation": True}),
    ],
)
def test_a_preset_gives_the_logits_of_the_network_it_was_ported_from(
    form: Any,
    blocks: tuple[Block, ...],
    written_as: forebear.Dialect,
    same_as: forebear.Dialect,
    changes: dict[str, Any],
    tmp_path: Path,
) -> None:
    theirs = initial(form, blocks, same_as)
    ours = forebear.load(preset(tmp_path, theirs, **changes))
    assert ours.dialect == written_as
    assert (ours.plan.num_classes, ours.card.provenance["network"]) == (5, "kerashub/resnet")
    images = torch.rand(2, 3, 65, 50)
    with torch.inference_mode():
        assert (ours(images) - theirs(images)).abs().max() < 1e-5


def test_the_names_are_those_of_the_library(tmp_path: Path) -> None:
    with forebear.read_arrays(preset(tmp_path, initial("bottleneck", BOTTLENECK, TIMM_V1))) as held:
        names = {name.rpartition("/")[0] for name in held}
    assert {"conv1_conv", "conv1_bn", "stack0_block0_0_conv", "stack0_block0_0_bn"} <= names
    assert {"stack1_block1_3_conv", "stack1_block1_3_bn", "predictions"} <= names
    network = initial("bottleneck", BOTTLENECK, TIMM_PREACT)
    assert {"stack1_block1_pre_activation_bn", "post_bn"} <= {
        pair.theirs.rpartition("/")[0] for pair in pairs(network.plan, "kerashub")
    }


def test_a_converter_gives_the_preprocessing_and_a_note(tmp_path: Path) -> None:
    path = preset(tmp_path, initial("bottleneck", BOTTLENECK, TIMM_V1))
    network = forebear.load(path)
    rule = network.preprocessing
    assert (rule.size, rule.side, rule.resize, rule.interpolation) == (48, 48, "shorter", "bicubic")
    assert (rule.mean, rule.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert "this preset resizes them without" in network.card.provenance["notes"]
    assert not network.classes
    written(path, "image_converter.json", {"config": CONVERTER | {"antialias": True}})
    smooth = forebear.load(path)
    assert smooth.preprocessing == rule
    assert "antialiasing" not in smooth.card.provenance.get("notes", "")
    written(path, "image_converter.json", {"config": CONVERTER | {"pad_to_aspect_ratio": True}})
    notes = forebear.load(path).card.provenance["notes"]
    assert "image_converter.json cannot be expressed (pad_to_aspect_ratio=true)" in notes
    (path / "image_converter.json").unlink()
    assert "there is no image_converter.json" in forebear.load(path).card.provenance["notes"]


def test_a_backbone_alone_has_no_logits(tmp_path: Path) -> None:
    whole = initial("bottleneck", BOTTLENECK, KERASHUB_V1)
    path = preset(tmp_path, whole)
    (path / "task.weights.h5").unlink()
    (path / "task.json").unlink()
    body = forebear.load(path)
    assert body.plan.num_classes is None
    state = whole.state_dict()
    assert all(torch.equal(one, state[name]) for name, one in body.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"block_type": "bottleneck_block_vd"}, "This is a ResNet-vd: three 3x3 convolutions"),
        ({"block_type": "odd"}, "block_type='odd'. Expected one of basic_block, bottleneck_block"),
        ({"stackwise_num_blocks": [1]}, "no usable stacks"),
        ({"stackwise_num_blocks": [1, 10**9]}, "no usable stacks"),
        ({"stackwise_num_filters": "many"}, "no usable stacks"),
        ({"input_conv_filters": [8, 8, 8]}, "no usable stacks"),
        ({"stackwise_num_filters": [4, 7]}, "stack1_block0"),
    ],
)
def test_another_architecture_is_refused_by_name(
    changes: dict[str, Any], named: str, tmp_path: Path
) -> None:
    path = preset(tmp_path, initial("bottleneck", BOTTLENECK, KERASHUB_V1), **changes)
    with pytest.raises(WeightsError) as caught:
        forebear.load(path)
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("file", "content", "named"),
    [
        ("task.json", {"config": {"pooling": "max"}}, "its task.json has pooling='max'"),
        ("task.json", [], "task.json: cannot be read"),
        ("image_converter.json", [], "image_converter.json: cannot be read"),
        (
            "config.json",
            {"class_name": "ViTBackbone", "registered_name": "keras_hub>ViTBackbone"},
            "its config.json has class_name='ViTBackbone'",
        ),
    ],
)
def test_another_text_is_refused_by_name(
    file: str, content: Any, named: str, tmp_path: Path
) -> None:
    path = preset(tmp_path, initial("bottleneck", BOTTLENECK, KERASHUB_V1))
    written(path, file, content)
    with pytest.raises(WeightsError) as caught:
        forebear.load(path)
    assert named in str(caught.value)


def test_two_heads_of_one_name_are_refused(tmp_path: Path) -> None:
    network = initial("bottleneck", BOTTLENECK, KERASHUB_V1)
    path = preset(tmp_path, network)
    whole = [*layers(network, head=False), *layers(network, head=True)]
    write_keras(path / "model.weights.h5", whole, replace=True)
    with pytest.raises(WeightsError, match="predictions/kernel: two arrays have this name"):
        forebear.load(path)


@pytest.mark.parametrize(
    "name",
    ["config.json", "task.json", "image_converter.json", "task.weights.h5", "model.weights.h5"],
)
@pytest.mark.long(after=1)
def test_damage_is_refused_or_harmless(name: str, tmp_path: Path) -> None:
    path = preset(tmp_path, initial("bottleneck", BOTTLENECK, KERASHUB_V1)) / name
    data = path.read_bytes()
    for seed in range(40):
        path.write_bytes(damaged(data, seed))
        with suppress(WeightsError):  # any other exception fails the test
            forebear.load(tmp_path)


@pytest.mark.skipif(not SHARED.is_dir(), reason="its files are beside the repository")
def test_the_librarys_presets_have_its_pixels_but_for_the_antialiasing() -> None:
    with pytest.raises(WeightsError, match="This is a ResNet-vd"):
        forebear.load(SHARED / "kerashub" / "vd_bottleneck")
    network = forebear.load(SHARED / "kerashub" / "v1_basic")
    with np.load(SHARED / "kerashub" / "preprocess_kerashub.npz") as arrays:
        for size in ("75x100", "97x64"):
            found = network.preprocess(arrays[f"image::{size}"]).numpy()[0].transpose(1, 2, 0)
            assert np.abs(found - arrays[f"values::{size}"]).mean() < 0.32  # noise: the worst case
