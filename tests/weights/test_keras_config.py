"""The model_config of a Keras file is compared with the network that its names tell."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import forebear
from forebear import Block, Conv, Pool, Table, WeightsError
from forebear.cli.main import main

h5py = pytest.importorskip("h5py")

TABLE = Table(
    "resnet8",
    (Conv("conv1", 8, 7, stride=2), Pool("pool1", 3, 2)),
    "bottleneck",
    (Block("block1", 1, 4, 16), Block("block2", 1, 8, 32, stride=2)),
    classes=5,
    image_size=32,
)
Put = Callable[[Any], Path]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("keras")
    forebear.save(forebear.create(TABLE, dialect="keras-v1"), place / "a.safetensors")
    assert main(["convert", str(place / "a.safetensors"), str(place / "a.h5")]) == 0
    return place / "a.h5"


@pytest.fixture
def put(written: Path, tmp_path: Path) -> Put:
    """Adds a configuration to the file."""

    def changed(config: Any) -> Path:
        path = shutil.copy(written, tmp_path / "net.h5")
        with h5py.File(path, "r+") as file:
            file.attrs["model_config"] = config if isinstance(config, str) else json.dumps(config)
        return Path(path)

    return changed


def model(*layers: tuple[str, dict[str, Any]], kind: str = "Functional") -> dict[str, Any]:
    """A model's configuration, whose layers are named by their class."""
    listed = [
        {"class_name": name, "config": {"name": name.lower()} | config} for name, config in layers
    ]
    return {"class_name": kind, "config": {"layers": listed}}


def norm(epsilon: object) -> tuple[str, dict[str, Any]]:
    return "BatchNormalization", {"name": "conv1_bn", "epsilon": epsilon}


def notes(network: forebear.Network) -> str:
    """What is said apart from how the network was read."""
    said = network.card.provenance["notes"]
    return said.partition("strides as in dialect keras-v1")[2]


def test_a_configuration_that_agrees_changes_nothing(written: Path, put: Put) -> None:
    config = model(("RandomFlip", {}), norm(1.001e-5), ("GlobalAveragePooling2D", {}))
    found, plain = forebear.load(put(config)), forebear.load(written)
    assert found.preprocessing == plain.preprocessing
    assert notes(found) == notes(plain)


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (("GlobalMaxPooling2D", {}), "globalmaxpooling2d is a GlobalMaxPooling2D. Expected a netw"),
        (norm(1e-3), "conv1_bn has epsilon=0.001. Expected a network of dialect keras-v1"),
        (("Model", model(("GlobalMaxPool2D", {}))["config"]), "is a GlobalMaxPool2D"),
    ],
)
def test_a_configuration_that_contradicts_the_names_is_refused(
    layer: tuple[str, dict[str, Any]], why: str, put: Put
) -> None:
    path = put(model(("InputLayer", {}), layer))
    with pytest.raises(WeightsError, match=f"its model_config contradicts its names: .*{why}"):
        forebear.load(path)
    with pytest.raises(WeightsError, match="its model_config contradicts its names"):
        forebear.load(TABLE, dialect="keras-v1", weights=path)


def test_norms_of_other_layers_may_have_another_epsilon(put: Put) -> None:
    other = ("BatchNormalization", {"name": "mine", "epsilon": 1e-3})
    assert not notes(forebear.load(put(model(other))))


@pytest.mark.parametrize("kind", ["Functional", "Sequential"])
def test_a_rescaling_layer_is_the_preprocessing(kind: str, put: Put) -> None:
    layer: tuple[str, dict[str, Any]] = ("Rescaling", {"scale": 1 / 127.5, "offset": -1})
    found = forebear.load(put(model(layer, norm(1.001e-5), kind=kind))).preprocessing
    assert (found.order, found.scale, found.mean, found.std) == (
        "RGB",
        1 / 127.5,
        (1,) * 3,
        (1,) * 3,
    )
    layer = ("Rescaling", {"scale": 1 / 255, "offset": [0.5, 0.25, 0]})
    assert forebear.load(put(model(layer))).preprocessing.mean == (-0.5, -0.25, 0)


@pytest.mark.parametrize(
    "layers",
    [
        [{"scale": 0}],
        [{"scale": "x"}],
        [{}],
        [{"scale": 1, "offset": [1, 2]}],
        [{"scale": 1, "offset": None}],
        [{"scale": 1}, {"scale": 2}],
    ],
)
def test_a_scale_that_cannot_be_expressed_is_said(
    layers: list[dict[str, Any]], written: Path, put: Put
) -> None:
    found = forebear.load(put(model(*(("Rescaling", one) for one in layers))))
    assert "its Rescaling layers cannot be expressed as a preprocessing" in notes(found)
    assert found.preprocessing == forebear.load(written).preprocessing


def test_layers_that_are_left_out_are_named(put: Put) -> None:
    names = ("GetItem", "Stack", "Resizing", "CenterCrop", "Custom>Mine", "Cast")
    said = notes(forebear.load(put(model(*((name, {}) for name in names)))))
    assert "that forebear leaves out: getitem (GetItem), stack (Stack), resizing (Resiz" in said
    assert "centercrop (CenterCrop) and 2 more; images are preprocessed by forebear" in said


def test_a_lambda_belongs_to_a_resnext_only(put: Put) -> None:
    assert "lambda (Lambda)" in notes(forebear.load(put(model(("Lambda", {})))))
    assert not notes(forebear.load(put(model(("DepthwiseConv2D", {}), ("Lambda", {})))))


@pytest.mark.parametrize("config", ["", "[]", "3", '{"config": {"layers": [1, {}]}}', "null"])
def test_a_configuration_of_another_form_is_harmless(config: str, put: Put) -> None:
    assert not notes(forebear.load(put(config)))


def test_a_damaged_configuration_is_refused(put: Put) -> None:
    with pytest.raises(WeightsError, match="Expected an HDF5 file of Keras weights"):
        forebear.load(put("{"))
