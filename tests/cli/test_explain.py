"""forebear explain: a sheet per image, its line, and what is refused."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import forebear
from forebear.cli.main import main
from tests.cli.making import CLASSES, folder
from tests.network.making import make


@pytest.fixture(autouse=True)
def _libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("captum")
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "net.safetensors"
    forebear.save(make("paper/resnet20", num_classes=3), path, classes=CLASSES)
    return path


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as sheet:
        assert sheet.format == "PNG"
        return sheet.size


def test_a_folder_with_a_broken_image(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folder(tmp_path / "in", 2)
    broken = root / CLASSES[1] / "0.png"
    broken.write_text("broken")
    out = tmp_path / "new" / "sheets"
    words = ["explain", str(saved), str(root), "--out", str(out), "--method", "grad-cam"]
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.err.splitlines()[0].startswith(f"forebear: {broken}: not an image")
    assert said.err.splitlines()[1:] == ["forebear: 1 of 6 images could not be read"]
    names = ["0.png", "1.png", "1-2.png", "0-3.png", "1-3.png"]
    lines = said.out.splitlines()
    assert [line.rpartition(", ")[2] for line in lines] == [str(out / name) for name in names]
    assert lines[0].startswith(f"{root / CLASSES[0] / '0.png'}: ")
    assert sorted(path.name for path in out.iterdir()) == sorted(names)
    assert size(out / "1-2.png") == size(out / "0.png")
    broken.unlink()
    assert main(words) == 0


@pytest.mark.long
def test_one_image_as_json_with_maps_and_neighbours(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folder(tmp_path / "data", 8)
    image, sheet = root / CLASSES[2] / "1.png", tmp_path / "one.png"
    words = ["explain", str(saved), str(image), "--out", str(sheet), "--json", "--maps"]
    words += ["--neighbours", f"folder:{root}", "--nearest", "3", "--class", CLASSES[0]]
    assert main([*words, "--end-point", "block2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["image"] == str(image)
    assert found["sheet"] == str(sheet)
    assert found["class"] == CLASSES[0]
    shares = {row["class"]: row["probability"] for row in found["classes"]}
    assert sum(shares.values()) == pytest.approx(1, abs=1e-4)
    assert found["probability"] == shares[CLASSES[0]]
    assert len(found["neighbours"]) == 3
    for one in found["neighbours"]:
        assert Path(one["image"]).parent.name == one["class"]
    assert sorted(found["maps"]) == ["grad-cam", "occlusion"]
    network = forebear.load(saved)
    from forebear.tasks.explain import explain

    expected = explain(network, image, class_name=CLASSES[0], end_point="block2").map
    np.testing.assert_array_equal(np.load(found["maps"]["grad-cam"]), expected)
    assert np.load(tmp_path / "one.occlusion.npy").shape == (32, 32)
    height = size(sheet)[1]
    assert main([*words, "--nearest", "7"]) == 0  # overwrites
    assert size(sheet)[1] > height


def test_a_broken_training_image_counts(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from forebear.data.sources.registry import read_data

    root = folder(tmp_path / "data", 8)
    broken = Path(read_data(f"folder:{root}").train.name(0))
    broken.write_text("broken")
    image = folder(tmp_path / "in", 1) / CLASSES[0] / "0.png"
    words = ["explain", str(saved), str(image), "--out", str(tmp_path / "a.png")]
    assert main([*words, "--neighbours", f"folder:{root}", "--method", "grad-cam"]) == 2
    said = capsys.readouterr()
    assert f"{broken}: not an image" in said.err
    assert "training images could not be read, and are no neighbours" in said.err
    assert len(said.out.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["x.png", "--out", "o", "--class", "acros"], "Did you mean across"),
        (["x.png", "--out", "o", "--method", "gradcam"], "Did you mean grad-cam"),
        (["x.png", "--out", "o", "--end-point", "pool"], "its shape is [64], which is no map"),
        (["x.png", "--out", "o", "--end-point", "blok3"], "Did you mean block3"),
        (["x.png", "--out", "o", "--nearest", "0"], "nearest=0: expected 1 to 60"),
        (["x.png", "y.png", "--out", "o.png"], "a file for 2 images. Expected a folder"),
        (["x.png", "--out", "no/o.png"], "there is no folder no"),
        (["--out", "o"], "no IMAGE: expected at least one image"),
        (["x.png"], "--out"),
        (
            ["x.png", "--out", "o", "--method", "occlusion", "--end-point", "block2"],
            "only Grad-CAM takes maps at an end point",
        ),
    ],
)
def test_arguments_that_cannot_be(
    words: list[str], message: str, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", str(saved), *words]) == 2
    assert message in capsys.readouterr().err
    assert not Path("o").exists()


def test_a_sheet_never_overwrites_an_image(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folder(tmp_path / "in", 2) / CLASSES[0]
    before = (root / "0.png").read_bytes()
    for out in (root, root / "0.png"):
        assert main(["explain", str(saved), str(root / "0.png"), "--out", str(out)]) == 2
        assert "would overwrite the image" in capsys.readouterr().err
    assert (root / "0.png").read_bytes() == before
    assert main(["explain", str(saved), str(root / "0.png"), "--out", str(saved)]) == 2
    assert "not a folder. Expected a folder or a file that ends in .png" in capsys.readouterr().err


def test_a_network_without_a_classifier(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "body.safetensors"
    forebear.save(make("paper/resnet20", num_classes=None), path)
    assert main(["explain", str(path), "x.png", "--out", "o"]) == 2
    assert "no classifier or no global pool" in capsys.readouterr().err


def test_an_exported_graph_has_no_gradients(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "net.onnx", "x.png", "--out", "o"]) == 2
    assert "net.onnx: an exported graph has no gradients" in capsys.readouterr().err


def test_weights_in_place_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = make("paper/resnet20", num_classes=3)
    net.card = replace(net.card, classes=("n02123045", "n01440764", "other"))
    forebear.save(net, tmp_path / "a.safetensors")
    image = folder(tmp_path / "in", 1) / CLASSES[0] / "0.png"
    words = ["explain", "--weights", str(tmp_path / "a.safetensors"), str(image)]
    assert main([*words, "--class", "tench", "--out", str(tmp_path)]) == 0
    assert ": n01440764 " in capsys.readouterr().out


@pytest.mark.parametrize("library", ["captum.attr", "matplotlib.figure"])
def test_without_a_library(
    library: str,
    saved: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    assert main(["explain", str(saved), "x.png", "--out", "o"]) == 2
    assert "pip install 'forebear[explain]'" in capsys.readouterr().err
    assert not Path("o").exists()
