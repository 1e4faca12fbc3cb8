"""What a Hub folder says about preprocessing and classes is used, or what cannot be is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import forebear
from forebear.tables.preprocessing import TIMM, Preprocessing
from forebear.weights.hub_facts import Facts, timm_facts, transformers_facts
from forebear.weights.readers.hub import read_config
from tests.weights.forms import NETWORK, is_ours, state

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CONVNEXT = {
    "image_processor_type": "ConvNextImageProcessor",
    "crop_pct": 0.875,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": list(MEAN),
    "image_std": list(STD),
    "resample": 3,
    "rescale_factor": 1 / 255,
    "size": {"shortest_edge": 224},
}
TIMM_CFG = {
    "input_size": [3, 224, 224],
    "mean": list(MEAN),
    "std": list(STD),
    "crop_pct": 0.95,
    "crop_mode": "center",
    "interpolation": "bicubic",
}


def transformers(folder: Path, processor: dict[str, Any], **config: Any) -> Facts:
    (folder / "config.json").write_text(json.dumps({"model_type": "resnet"} | config))
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return transformers_facts(folder, read_config(folder))


def timm(folder: Path, **changes: Any) -> Facts:
    config = {"architecture": "resnet50", "pretrained_cfg": TIMM_CFG | changes}
    (folder / "config.json").write_text(json.dumps(config))
    return timm_facts(read_config(folder))


def geometry(rule: Preprocessing | None) -> tuple[object, ...]:
    assert rule is not None
    return rule.size, rule.resize, rule.side, rule.interpolation


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, (224, "shorter", 256, "bicubic")),
        ({"size": {"shortest_edge": 288}, "crop_pct": 0.95}, (288, "shorter", 303, "bicubic")),
        ({"size": {"shortest_edge": 384}}, (384, "square", 384, "bicubic")),
        ({"size": 224, "resample": 2}, (224, "shorter", 256, "bilinear")),
        (
            {"image_processor_type": "ViTImageProcessor", "size": {"height": 96, "width": 96}},
            (96, "square", 96, "bicubic"),
        ),
        (
            {
                "image_processor_type": "CLIPImageProcessorFast",
                "size": {"shortest_edge": 256},
                "crop_size": {"height": 224, "width": 224},
                "do_center_crop": True,
            },
            (224, "shorter", 256, "bicubic"),
        ),
    ],
)
def test_processors_of_transformers_are_expressed(
    changes: dict[str, Any], wanted: tuple[object, ...], tmp_path: Path
) -> None:
    facts = transformers(tmp_path, CONVNEXT | changes)
    assert geometry(facts.preprocessing) == wanted
    assert facts.preprocessing is not None
    assert (facts.preprocessing.mean, facts.preprocessing.std) == (MEAN, STD)
    assert not facts.notes


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"resample": 1}, "resample=1"),
        ({"do_resize": False}, "it does not resize"),
        ({"do_normalize": False}, "it does not rescale or normalise"),
        ({"size": {"longest_edge": 224}}, "size="),
        ({"image_mean": [0.5] * 4, "image_std": [0.5] * 4}, "4 channels"),
        ({"image_std": [0, 0, 0]}, "std="),
        ({"size": {"shortest_edge": 10**9}}, "size=1000000000"),
        ({"image_mean": "bright"}, "channels"),
        ({"crop_pct": 0}, "division by zero"),
    ],
)
def test_what_cannot_be_expressed_is_said(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    facts = transformers(tmp_path, CONVNEXT | changes)
    assert facts.preprocessing is None
    (note,) = facts.notes
    assert note.startswith("the preprocessing in preprocessor_config.json cannot be expressed (")
    assert said in note


def test_class_names_are_ordered_by_number(tmp_path: Path) -> None:
    labels = {"10": "k", **{str(n): chr(ord("a") + n) for n in range(10)}}
    assert transformers(tmp_path, CONVNEXT, id2label=labels).classes == tuple("abcdefghijk")
    for none in ({"0": "LABEL_0", "1": "LABEL_1"}, {"0": "a", "2": "b"}, {"x": "a"}, ["a"]):
        assert transformers(tmp_path, CONVNEXT, id2label=none).classes == ()


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, (224, "shorter", 235, "bicubic")),
        ({"input_size": [3, 288, 288], "crop_pct": 1.0}, (288, "shorter", 288, "bicubic")),
        ({"crop_mode": "squash", "crop_pct": 1.0}, (224, "square", 224, "bicubic")),
        ({"interpolation": "bilinear", "crop_pct": 0.875}, (224, "shorter", 256, "bilinear")),
    ],
)
def test_configs_of_timm_are_expressed(
    changes: dict[str, Any], wanted: tuple[object, ...], tmp_path: Path
) -> None:
    facts = timm(tmp_path, **changes)
    assert geometry(facts.preprocessing) == wanted
    assert not facts.notes
    if not changes:
        assert facts.preprocessing == TIMM


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"crop_mode": "border"}, "crop_mode='border'"),
        ({"crop_mode": "squash"}, "crop_mode='squash' with crop_pct=0.95"),
        ({"interpolation": "lanczos"}, "interpolation='lanczos'"),
        ({"input_size": [3, 224, 256]}, "input_size=[3, 224, 256]"),
        ({"input_size": 224}, "cannot"),
    ],
)
def test_what_timm_says_and_cannot_be_expressed_is_said(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    (note,) = timm(tmp_path, **changes).notes
    assert said in note


def test_a_folder_of_timm_loads_with_its_facts(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    names = ["red", "green", "blue", "grey", "pink"]
    config = {
        "architecture": "mine",
        "num_classes": 5,
        "label_names": names,
        "pretrained_cfg": TIMM_CFG | {"input_size": [3, 40, 40], "mean": [0.1, 0.2, 0.3]},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(state(), tmp_path / "model.safetensors")
    found = forebear.load(tmp_path)
    assert is_ours(found)
    assert found.classes == tuple(names)
    assert found.preprocessing.mean == (0.1, 0.2, 0.3)
    assert (found.preprocessing.size, found.preprocessing.side) == (40, 42)
    assert NETWORK.preprocessing.size == 32


def test_a_folder_without_processor_says_so(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "resnet"}))
    facts = transformers_facts(tmp_path, read_config(tmp_path))
    assert "there is no preprocessor_config.json" in facts.notes[0]
