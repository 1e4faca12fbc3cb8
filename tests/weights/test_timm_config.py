"""Networks of timm with the arrays of another network are refused by what the file says of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import forebear
from forebear import WeightsError
from forebear.cli.main import main


@pytest.fixture(scope="module")
def network() -> forebear.Network:
    return forebear.create("timm/resnet18", num_classes=3).eval()


@pytest.fixture(scope="module")
def written(network: forebear.Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("timm")
    forebear.save(network, place / "a.safetensors")
    assert main(["convert", str(place / "a.safetensors"), str(place / "hub"), "--to", "timm"]) == 0
    return place / "hub"


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    return shutil.copytree(written, tmp_path / "hub")


def said(folder: Path, **config: Any) -> None:
    """Changes config.json."""
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | config), "utf-8")


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"architecture": "resnetblur18"}, "this is timm's resnetblur18, which subsamples with bl"),
        ({"architecture": "resnetaa18.x"}, "this is timm's resnetaa18.x, which subsamples with av"),
        ({"model_args": {"aa_layer": "blurpc"}}, "made its network with aa_layer=blurpc. Expected"),
        ({"model_args": {"act_layer": "silu"}}, "act_layer=silu"),
        ({"model_args": {"output_stride": 8}}, "output_stride=8"),
        ({"model_args": {"avg_down": True}}, "avg_down=True"),
        ({"model_args": {"a_later_one": [1.5]}}, r"a_later_one=\[1.5\]"),
        ({"global_pool": "max"}, "global_pool=max"),
    ],
)
def test_what_no_array_shows_is_refused(config: dict[str, Any], why: str, folder: Path) -> None:
    said(folder, **config)
    with pytest.raises(WeightsError, match=why):
        forebear.load(folder)
    with pytest.raises(WeightsError, match=why):
        forebear.load("timm/resnet18", weights=folder)


@pytest.mark.parametrize(
    "config",
    [
        {"architecture": "resnet18.a1_in1k"},
        {"architecture": "my_own"},
        {"model_type": "timm_wrapper", "pretrained_cfg": None},  # of transformers
        {"model_args": {"drop_path_rate": 0.1, "in_chans": 3, "aa_layer": None, "avg_down": False}},
        {"model_args": {"act_layer": "relu", "output_stride": 32, "layers": [2, 2, 2, 2]}},
        {"model_args": 3},
        {"global_pool": "fast"},
    ],
)
def test_usual_settings_are_read(
    config: dict[str, Any], network: forebear.Network, folder: Path
) -> None:
    said(folder, **config)
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(forebear.load(folder).eval()(images), network(images))


@pytest.mark.parametrize(("arch", "fits"), [("resnetblur18", False), ("resnet18", True), (3, True)])
def test_a_checkpoint_of_a_training_script_has_the_name_too(
    arch: object, fits: bool, network: forebear.Network, folder: Path, tmp_path: Path
) -> None:
    state = {name: torch.from_numpy(one) for name, one in forebear.read_arrays(folder).items()}
    path = tmp_path / "model_best.pth.tar"
    torch.save({"epoch": 3, "arch": arch, "state_dict": state}, path)
    if fits:
        assert forebear.load(path).table.blocks == network.table.blocks
        return
    with pytest.raises(WeightsError, match="this is timm's resnetblur18"):
        forebear.load(path)
