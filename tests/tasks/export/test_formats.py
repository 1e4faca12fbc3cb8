from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import forebear
from forebear.engines.graph_card import parse_card, read_card
from forebear.tables.preprocessing import TIMM_V2
from forebear.tasks.export.formats import FORMATS, Options
from tests.engines.test_onnx_model import distance, expected, pixels, prepared, sized
from tests.network.making import make, table


def small(dialect: str = "torchvision", size: int = 64) -> forebear.Network:
    network = prepared(make(table("basic"), dialect, num_classes=3), sized(TIMM_V2, size))
    network.card = replace(network.card, classes=("a", "b", "c"), provenance={"licence": "MIT"})
    return network


def require(name: str) -> None:
    for module in FORMATS[name].modules:
        pytest.importorskip(module)


@pytest.mark.parametrize("inside", [False, True], ids=["images", "pixels"])
@pytest.mark.parametrize("name", ["onnx", "openvino", "torch-export", "litert"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.long(after=1)
def test_the_file_in_its_runtime_gives_equal_logits(
    name: str, inside: bool, tmp_path: Path
) -> None:
    require(name)
    kind, network = FORMATS[name], small()
    path = tmp_path / f"m{kind.ending}"
    card = kind.write(network, path, Options(pixels=inside))
    given = pixels(network.preprocessing)
    found = kind.run(path, card)(given)
    assert found.dtype == np.float32
    assert distance(found, expected(network, given)) < 1e-5
    assert card.takes == ("pixels" if inside else "images")
    assert card.classes == ("a", "b", "c")


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_float16_halves_the_file(name: str, tmp_path: Path) -> None:
    require(name)
    kind, network = FORMATS[name], small()
    sizes = {}
    for precision in ("fp32", "fp16"):
        path = tmp_path / f"{precision}{kind.ending}"
        card = kind.write(network, path, Options(precision=precision))
        files = [path, *(path.with_suffix(ending) for ending in kind.companions)]
        sizes[precision] = max(file.stat().st_size for file in files)
        given = pixels(network.preprocessing)
        gap = distance(kind.run(path, card)(given), expected(network, given))
        assert gap < (1e-5 if precision == "fp32" else 5e-3)
        assert gap > 0
    assert 0.45 < sizes["fp16"] / sizes["fp32"] < 0.75


@pytest.mark.parametrize("name", ["onnx", "openvino", "torch-export"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_any_size(name: str, tmp_path: Path) -> None:
    require(name)
    kind, network = FORMATS[name], small("torchvision", 96)
    network = prepared(
        make(replace(table("basic"), blocks=table("basic").blocks[:1]), "torchvision"),
        sized(TIMM_V2, 96),
    )
    path = tmp_path / f"m{kind.ending}"
    card = kind.write(network, path, Options(any_size=True))
    for size in (96, 101):
        given = pixels(sized(TIMM_V2, size))
        assert distance(kind.run(path, card)(given), expected(network, given)) < 1e-5


def test_other_programs_find_classes_and_licence(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    FORMATS["onnx"].write(small(), tmp_path / "m.onnx", Options())
    held = {one.key: one.value for one in onnx.load(tmp_path / "m.onnx").metadata_props}
    assert held["classes"] == '["a", "b", "c"]'
    assert held["licence"] == "MIT"
    assert '"size": 64' in held["preprocessing"]
    assert read_card(tmp_path / "m.onnx").classes == ("a", "b", "c")


def test_labels_follow_a_litert_file(tmp_path: Path) -> None:
    require("litert")
    FORMATS["litert"].write(small(), tmp_path / "m.tflite", Options())
    with zipfile.ZipFile(tmp_path / "m.tflite") as archive:
        assert archive.read("labels.txt").decode().split() == ["a", "b", "c"]
        assert parse_card(archive.read("forebear.json").decode()).network == "small"


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = replace(FORMATS["litert"], modules=("no_such_module",))
    assert "no_such_module is not installed" in kind.missing(unchecked=False)
    assert "forebear[litert]" in kind.missing(unchecked=False)
    assert FORMATS["torch-export"].missing(unchecked=False) == ""
    monkeypatch.setattr("sys.platform", "linux")
    told = FORMATS["coreml"].missing(unchecked=False)
    assert "for macOS only" in told
    assert "--unchecked" in told
