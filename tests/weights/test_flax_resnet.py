"""The ResNets of Flax's example and of transformers' Flax class.

goldens/flax has files that Flax wrote, and what its networks compute (see its README.md).
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import forebear
from forebear import Block, Conv, Pool, Table, WeightsError
from forebear.tables.registry import find
from forebear.tables.rows import Form
from forebear.weights.flax_resnet import FLAX, TRANSFORMERS_FLAX
from forebear.weights.variable_names import pairs
from tests.network.making import make
from tests.weights.flax_making import packed, variables_of
from tests.weights.readers.making import damaged

GOLDENS = Path(__file__).parent / "goldens" / "flax"
ROOT = (Conv("conv1", 8, 7, stride=2, padding=3), Pool("pool1"))


def network_of(form: Form, units: tuple[int, ...] = (2, 1, 2), **options: Any) -> forebear.Network:
    """A network of the example's kind, with other numbers."""
    wider = 4 if form == "bottleneck" else 1
    blocks = tuple(
        Block(f"block{n}", count, 4 * 2**n, 4 * 2**n * wider, 1 if n == 1 else 2)
        for n, count in enumerate(units, start=1)
    )
    return make(Table("resnet", ROOT, form, blocks), FLAX, num_classes=5, **options)


def put(folder: Path, content: Any, name: str = "a.msgpack") -> Path:
    path = folder / name
    path.write_bytes(packed(content))
    return path


def same(one: forebear.Network, other: forebear.Network) -> bool:
    images = torch.randn(2, 3, 65, 48, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return torch.equal(one(images), other(images))


@pytest.mark.parametrize("form", ["basic", "bottleneck"])
@pytest.mark.parametrize("size", ["48x33", "33x40"])
def test_a_file_of_flax_gives_its_logits(form: str, size: str) -> None:
    network = forebear.load(GOLDENS / f"{form}.msgpack")
    with np.load(GOLDENS / "expected.npz") as arrays:
        images, logits = (arrays[f"{form}/{size}/{what}"] for what in ("images", "logits"))
    with torch.inference_mode():
        found = network(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    assert np.abs(found - logits).max() < 1e-6 * np.abs(logits).max()


def test_the_goldens_tell_other_dialects_apart() -> None:
    network = forebear.load(GOLDENS / "bottleneck.msgpack")
    with np.load(GOLDENS / "expected.npz") as arrays:
        images, logits = (arrays[f"bottleneck/33x40/{what}"] for what in ("images", "logits"))
    changes: list[dict[str, Any]] = [
        {"conv_padding": "explicit"},
        {"pool_padding": "explicit"},
        {"norm_eps": 1e-3},
        {"strided_conv": "conv1"},
    ]
    for change in changes:
        dialect = replace(FLAX, **change)
        other = forebear.create(network.plan.table, dialect=dialect, num_classes=5).eval()
        other.load_state_dict(network.state_dict())
        with torch.inference_mode():
            found = other(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
        assert np.abs(found - logits).max() > 1e-3 * np.abs(logits).max(), change


@pytest.mark.parametrize("form", ["basic", "bottleneck"])
@pytest.mark.parametrize("units", [(2, 1, 2), (1,), (3, 3, 3, 3)])
def test_a_file_of_the_example_has_its_table_and_function(
    form: Form, units: tuple[int, ...], tmp_path: Path
) -> None:
    network = network_of(form, units)
    found = forebear.load(put(tmp_path, variables_of(network)))
    assert found.plan.table.blocks == network.plan.table.blocks
    assert found.plan.dialect == FLAX
    assert found.card.provenance["network"] == "flax/resnet"
    assert found.preprocessing.interpolation == "bicubic"
    assert same(found, network)


def test_a_training_state_has_one_network(tmp_path: Path) -> None:
    network = network_of("bottleneck")
    made = variables_of(network)
    state = {
        "step": np.int32(7),
        "params": made["params"],
        "opt_state": {"0": {"trace": made["params"]}, "1": {"count": np.int32(7)}},
        "batch_stats": made["batch_stats"],
    }
    found = forebear.load(put(tmp_path, state))
    assert same(found, network)
    assert "left: opt_state" in found.card.provenance["notes"]
    inner = forebear.load(put(tmp_path, {"model": made, "epoch": 3}))
    assert same(inner, network)


def test_the_published_blocks_have_their_name_and_any_channels(tmp_path: Path) -> None:
    table = find("timm/resnet18").table
    conv = Conv("conv1", 64, 7, stride=2, padding=3)
    table = Table("x", (conv, Pool("pool1")), "basic", table.blocks)
    network = make(table, FLAX, num_classes=3, in_channels=1)
    found = forebear.load(put(tmp_path, variables_of(network)))
    assert found.card.provenance["network"] == "flax/resnet18"
    assert found.plan.in_channels == 1


def test_padding_and_strides_are_those_of_flax(tmp_path: Path) -> None:
    network = network_of("bottleneck")
    plan = forebear.load(put(tmp_path, variables_of(network))).plan
    assert plan.root[0].padding == 3
    assert plan.root[1].padding == "same"
    unit = dict(plan.blocks)["block2"][0]
    assert [(conv.stride, conv.padding) for conv in unit.convs] == [(1, 0), (2, "same"), (1, 0)]


@pytest.mark.parametrize(
    ("layer", "named"),
    [
        ("bn_init", "match none of the"),
        ("conv_init", "match none of the"),
        ("BottleneckResNetBlock_2", "match none of the"),
        ("BottleneckResNetBlock_1/Conv_1", "BottleneckResNetBlock_1/Conv_1/kernel"),
    ],
)
def test_a_file_without_a_layer_is_refused(layer: str, named: str, tmp_path: Path) -> None:
    made = variables_of(network_of("bottleneck"))
    *scope, last = layer.split("/")
    for variables in made.values():
        for part in scope:
            variables = variables.get(part, {})
        variables.pop(last, None)
    with pytest.raises(WeightsError) as caught:
        forebear.load(put(tmp_path, made))
    assert named in str(caught.value)


def test_a_fork_with_a_root_for_small_images_is_refused(tmp_path: Path) -> None:
    made = variables_of(network_of("bottleneck"))
    made["params"]["conv_init"]["kernel"] = np.zeros((3, 3, 3, 8), np.float32)
    with pytest.raises(WeightsError, match="match none of the"):
        forebear.load(put(tmp_path, made))


CONFIG = {
    "model_type": "resnet",
    "architectures": ["ResNetForImageClassification"],
    "layer_type": "bottleneck",
    "embedding_size": 8,
    "hidden_sizes": [32, 64],
    "depths": [2, 1],
    "id2label": {"0": "a", "1": "b", "2": "c"},
}


def folder_of(folder: Path, content: Any, **changes: Any) -> Path:
    """A folder of transformers with Flax weights."""
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))
    put(folder, content, "flax_model.msgpack")
    return folder


def transformers_network() -> forebear.Network:
    blocks = (Block("block1", 2, 8, 32), Block("block2", 1, 16, 64, 2))
    root = (Conv("conv1", 8, 7, stride=2), Pool("pool1"))
    return make(Table("resnet", root, "bottleneck", blocks), TRANSFORMERS_FLAX, num_classes=3)


def test_a_folder_of_transformers_loads_with_and_without_classifier(tmp_path: Path) -> None:
    network = transformers_network()
    made = variables_of(network)
    found = forebear.load(folder_of(tmp_path, made))
    assert found.classes == ("a", "b", "c")
    assert found.card.provenance["network"] == "transformers/resnet"
    assert same(found, network)
    body = {name: variables["resnet"] for name, variables in made.items()}
    bare = forebear.load(folder_of(tmp_path, body))
    assert bare.plan.num_classes is None
    state = network.state_dict()
    assert all(torch.equal(one, state[name]) for name, one in bare.state_dict().items())


def test_a_folder_of_transformers_gives_its_logits() -> None:
    network = forebear.load(GOLDENS / "transformers")
    with np.load(GOLDENS / "transformers" / "expected.npz") as arrays:
        images, logits = arrays["images"], arrays["logits"]
    with torch.inference_mode():
        found = network(torch.from_numpy(images)).numpy()
    assert np.abs(found - logits).max() < 1e-6 * np.abs(logits).max()


def test_a_pickle_or_safetensors_beside_it_is_taken_first(tmp_path: Path) -> None:
    network = transformers_network()
    folder = folder_of(tmp_path, variables_of(network))
    state = {
        pair.theirs: network.state_dict()[pair.ours] for pair in pairs(network.plan, "transformers")
    }
    torch.save({name: one + 1 for name, one in state.items()}, folder / "pytorch_model.bin")
    found = forebear.load(folder).state_dict()
    ours = network.state_dict()
    assert torch.equal(found["root.conv1.conv.weight"], ours["root.conv1.conv.weight"] + 1)


def test_a_stride_that_the_flax_class_ignores_is_said(tmp_path: Path) -> None:
    network = transformers_network()
    folder = folder_of(tmp_path, variables_of(network), downsample_in_bottleneck=True)
    found = forebear.load(folder)
    assert same(found, network)
    assert "FlaxResNet ignores" in found.card.provenance["notes"]


def test_a_file_of_transformers_without_its_config_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path, variables_of(transformers_network()))
    with pytest.raises(WeightsError, match="Expected its config.json beside it"):
        forebear.load(path)


@pytest.mark.parametrize("seed", range(20))
def test_mutations_are_read_or_refused(seed: int, tmp_path: Path) -> None:
    from tests.fuzzing import fault

    whole = packed(variables_of(network_of("basic", (1, 1))))
    assert fault("flax", damaged(whole, seed), tmp_path / "x") is None
