from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from forebear.weights.readers.detect import open_arrays
from forebear.weights.readers.hub import HubArrays
from tests.weights.readers.making import assert_same, refusal

TIMM = {
    "architecture": "resnet18",
    "num_classes": 10,
    "pretrained_cfg": {"input_size": [3, 224, 224], "mean": [0.485, 0.456, 0.406]},
}
TRANSFORMERS = {
    "architectures": ["ResNetForImageClassification"],
    "id2label": {"0": "cat", "1": "dog"},
    "model_type": "resnet",
}


def folder(path: Path, config: object, weights: str = "model.safetensors") -> Path:
    (path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    if weights.endswith(".safetensors"):
        save_file({"fc.weight": torch.ones(2, 3)}, path / weights)
    else:
        torch.save({"fc.weight": torch.ones(2, 3)}, path / weights)
    return path


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_a_folder_gives_its_arrays(weights: str, tmp_path: Path) -> None:
    with open_arrays(folder(tmp_path, TIMM, weights)) as arrays:
        assert arrays.format.startswith("Hub folder, ")
        assert_same(arrays, {"fc.weight": np.ones((2, 3), "f4")})


def test_safetensors_come_before_a_pickle(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"not read")
    with open_arrays(folder(tmp_path, TIMM)) as arrays:
        assert "safetensors" in arrays.format


def test_timms_config_is_plain_data(tmp_path: Path) -> None:
    with HubArrays(folder(tmp_path, TIMM)) as arrays:
        assert (arrays.config.architecture, arrays.config.num_classes) == ("resnet18", 10)
        assert arrays.config.pretrained_cfg["mean"] == [0.485, 0.456, 0.406]
        assert arrays.config.data == TIMM


def test_transformers_config_is_plain_data(tmp_path: Path) -> None:
    with HubArrays(folder(tmp_path, TRANSFORMERS)) as arrays:
        assert arrays.config.architecture == "ResNetForImageClassification"
        assert arrays.config.num_classes == 2
        assert not arrays.config.pretrained_cfg


def test_values_of_other_types_are_left_out(tmp_path: Path) -> None:
    odd = {"architecture": 3, "num_classes": "ten", "pretrained_cfg": [], "architectures": {}}
    with HubArrays(folder(tmp_path, odd)) as arrays:
        config = arrays.config
        assert (config.architecture, config.num_classes, config.pretrained_cfg) == (None, None, {})


def test_sharded_weights_are_found_by_their_index(tmp_path: Path) -> None:
    folder(tmp_path, TIMM, "model-1.safetensors")
    index = {"weight_map": {"fc.weight": "model-1.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with open_arrays(tmp_path) as arrays:
        assert list(arrays) == ["fc.weight"]


@pytest.mark.parametrize("config", ["", "[]", "{", "[" * 100_000])
def test_a_config_that_is_none_is_refused(config: str, tmp_path: Path) -> None:
    assert "config.json" in refusal(folder(tmp_path, config))


def test_a_folder_without_config_or_weights_is_refused(tmp_path: Path) -> None:
    assert "this folder has neither weights with the Hub's names nor" in refusal(tmp_path)
    folder(tmp_path, TIMM)
    (tmp_path / "config.json").unlink()
    assert "config.json" in refusal(tmp_path)
