"""A folder that transformers' save_pretrained wrote gives transformers' own logits.

goldens/transformers_resnet is such a folder (transformers 5.24.0, torch 2.13.0), of a bottleneck
network whose first 1x1 convolutions have the stride. Its weights come from `recipe.py`. The file
beside it has what ResNetForImageClassification and ConvNextImageProcessorPil compute.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import forebear
from forebear import WeightsError
from forebear.weights.variable_names import pairs

GOLDENS = Path(__file__).parent / "goldens"
FOLDER = GOLDENS / "transformers_resnet"
SHARED = Path(__file__).parents[3] / "shared" / "goldens" / "families"
ANIMALS = ("red fox", "grey wolf", "sea otter", "barn owl", "tree frog")


def expected() -> dict[str, np.ndarray[Any, Any]]:
    with np.load(GOLDENS / "transformers_resnet.expected.npz") as arrays:
        return dict(arrays)


def logits(network: forebear.Network, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    with torch.inference_mode():
        found: np.ndarray[Any, Any] = network(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    return found


def copied(folder: Path, **changes: Any) -> Path:
    """The folder with another config."""
    shutil.copytree(FOLDER, folder, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text("utf-8")) | changes
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_folder_gives_the_librarys_logits_pixels_and_classes() -> None:
    wanted = expected()
    network = forebear.load(FOLDER)
    assert np.abs(logits(network, wanted["input"]) - wanted["logits"]).max() < 1e-5
    pixels = network.preprocess(wanted["image"]).numpy()[0]
    assert np.abs(pixels - wanted["pixel_values"]).max() < 1e-6
    assert network.classes[:5] == ANIMALS
    assert (network.preprocessing.size, network.preprocessing.side) == (48, 54)
    assert network.card.provenance["network"] == "transformers/resnet"


def test_the_stride_of_another_config_gives_other_logits(tmp_path: Path) -> None:
    wanted = expected()
    network = forebear.load(copied(tmp_path, downsample_in_bottleneck=False))
    assert np.abs(logits(network, wanted["input"]) - wanted["logits"]).max() > 1e-2


def test_a_model_without_classifier_and_a_pickle_give_the_same(tmp_path: Path) -> None:
    wanted, whole = expected(), forebear.load(FOLDER)
    tensors = load_file(FOLDER / "model.safetensors")
    pickled = copied(tmp_path / "pickled")
    (pickled / "model.safetensors").unlink()
    torch.save(tensors, pickled / "pytorch_model.bin")
    assert np.array_equal(
        logits(forebear.load(pickled), wanted["input"]), logits(whole, wanted["input"])
    )
    for name in ("ResNetModel", "ResNetBackbone"):
        folder = copied(tmp_path / name, architectures=[name])
        body = {
            key.removeprefix("resnet."): tensor
            for key, tensor in tensors.items()
            if key.startswith("resnet.")
        }
        save_file(body, folder / "model.safetensors")
        network = forebear.load(folder)
        assert network.plan.num_classes is None
        assert not network.classes
        ours = network.state_dict()
        assert all(torch.equal(one, whole.state_dict()[key]) for key, one in ours.items())


@pytest.mark.skipif(not SHARED.is_dir(), reason="the goldens lie beside the repository")
@pytest.mark.parametrize(
    "name",
    [
        "basic", "basic.no_head", "basic.pytorch_model_bin", "basic.sharded", "basic_down1",
        "bottleneck", "bottleneck_down1", "bottleneck_down1_downb", "bottleneck_downb",
    ],
)  # fmt: skip
def test_every_form_of_the_library_gives_its_outputs(name: str) -> None:
    network = forebear.load(SHARED / "hf" / name)
    last = "logits" if network.plan.num_classes else "end_point::resnet.pooler"
    with (
        np.load(SHARED / "hf" / f"{name.partition('.')[0]}.expected.npz") as wanted,
        np.load(SHARED / "inputs.npz") as inputs,
    ):
        for key in inputs.files:
            size = next(size for size in ("64x49", "33x40") if size in key)
            found = logits(network, inputs[key])
            assert np.abs(found - wanted[f"{size}/{last}"].reshape(found.shape)).max() < 1e-5


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model_type": "vit"}, "model_type='vit'"),
        ({"hidden_act": "gelu"}, "hidden_act='gelu'"),
        ({"layer_type": "odd"}, "form='odd'"),
        ({"depths": "many"}, "no usable depths and hidden_sizes"),
        ({"depths": [1, 2]}, "no usable depths and hidden_sizes"),
        ({"hidden_sizes": [16, -24, 32, 40]}, "no usable depths and hidden_sizes"),
        ({"depths": [10**9, 2, 2, 1]}, "no usable depths and hidden_sizes"),
        ({"embedding_size": None}, "no usable depths and hidden_sizes"),
    ],
)
def test_another_architecture_is_refused_by_name(
    changes: dict[str, Any], named: str, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError) as caught:
        forebear.load(copied(tmp_path, **changes))
    assert named in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path))


def test_the_published_depths_have_the_names_of_timm(tmp_path: Path) -> None:
    from forebear.weights.readers.hub import read_config
    from forebear.weights.transformers_resnet import network_of

    sizes = {"hidden_sizes": [256, 512, 1024, 2048], "embedding_size": 64, "depths": [3, 4, 6, 3]}
    folder = copied(tmp_path, **sizes, downsample_in_bottleneck=False)
    table, dialect = network_of(read_config(folder), folder)
    assert (table.name, dialect.name) == ("resnet50", "transformers")


def test_the_names_are_those_of_the_library() -> None:
    network = forebear.load(FOLDER)
    names = {pair.theirs for pair in pairs(network.plan, "transformers")}
    assert names == set(load_file(FOLDER / "model.safetensors"))


def test_weights_of_a_folder_start_a_training(tmp_path: Path) -> None:
    from forebear.weights.load import find_card, find_network, library_arrays

    card = find_card(FOLDER)
    assert card is not None
    assert card.classes[:5] == ANIMALS
    name, table, dialect = find_network(FOLDER)
    assert name == "transformers/resnet"
    network = forebear.create(table, dialect=dialect, num_classes=9)
    with library_arrays(FOLDER) as arrays:
        assert forebear.load_arrays(network, arrays) == []
    wanted = expected()
    assert np.abs(logits(network.eval(), wanted["input"]) - wanted["logits"]).max() < 1e-5
