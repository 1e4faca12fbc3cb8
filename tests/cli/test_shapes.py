"""Rectangular input and --resize of train, and what every later verb makes of the weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import forebear
from forebear.cli.main import main
from tests.cli import making


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Oblong images and a tiny table."""
    folder = tmp_path_factory.mktemp("oblong")
    making.table(folder / "tiny.toml")
    for kind, name in enumerate(making.CLASSES):
        (folder / "images" / name).mkdir(parents=True)
        for seed in range(10):
            pixels = making.image(kind, seed, 40)[: 24 if seed % 2 else 40, : 40 - seed]
            Image.fromarray(pixels).save(folder / "images" / name / f"{seed}.png")
    return folder


def train(place: Path, run: Path, *more: str) -> None:
    images, table = f"folder:{place / 'images'}", str(place / "tiny.toml")
    given = ("--data", images, "--network", table, "--dialect", "torchvision", "--epochs", "2")
    assert main(["train", *given, "--batch", "8", "--out", str(run), *more]) == 0


@pytest.mark.parametrize("resize", ["crop", "pad", "squash"])
def test_a_rectangle_goes_from_training_through_every_verb(
    resize: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    train(place, run, "--size", "12x20", "--resize", resize)
    assert "12 x 20 pixels" in capsys.readouterr().err
    network = forebear.load(run)
    words = {"crop": "shorter", "pad": "pad", "squash": "square"}
    assert network.preprocessing.shape == (12, 20)
    assert network.preprocessing.resize == words[resize]
    recipe = json.loads((run / "settings.json").read_text())["recipe"]
    assert (recipe["size"], recipe["width"], recipe["resize"]) == (12, 20, resize)

    images = [str(place / "images" / name / "3.png") for name in making.CLASSES]
    assert network.preprocess(images).shape == (3, 3, 12, 20)
    assert main(["predict", str(run), *images, "--json", "--engine", "torch"]) == 0
    known = [json.loads(line)["classes"][0] for line in capsys.readouterr().out.splitlines()]
    assert len(known) == 3
    data = f"folder:{place / 'images'}"
    assert main(["evaluate", str(run), "--data", data, "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    log = (run / "metrics.jsonl").read_text().splitlines()
    assert measured["top1"] == pytest.approx(json.loads(log[-1])["val_accuracy"])

    pytest.importorskip("onnxruntime")
    graph = tmp_path / "m.onnx"
    given = ("export", str(run), "--to", "onnx", "--out", str(graph), "--with-preprocessing")
    assert main([*given]) == 0
    capsys.readouterr()
    assert main(["predict", str(graph), *images, "--json"]) == 0
    found = [json.loads(line)["classes"][0] for line in capsys.readouterr().out.splitlines()]
    for ours, theirs in zip(found, known, strict=True):
        assert ours["class"] == theirs["class"]
        assert ours["probability"] == pytest.approx(theirs["probability"], abs=1e-4)


@pytest.mark.long
def test_only_the_logits_can_be_trained_on_rectangles(place: Path, tmp_path: Path) -> None:
    train(place, tmp_path / "a", "--size", "12x20")
    weights = tmp_path / "a" / "best.safetensors"
    more = ("--weights", str(weights), "--recipe", "head-only")
    train(place, tmp_path / "b", *more)
    assert forebear.load(tmp_path / "b").preprocessing.shape == (12, 20)


@pytest.mark.long
def test_a_run_on_rectangles_is_resumed(place: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(place, run, "--size", "12x20", "--resize", "pad")
    assert main(["train", "--resume", str(run), "--epochs", "3"]) == 0
    assert forebear.load(run).preprocessing.shape == (12, 20)


@pytest.mark.parametrize("size", ["x20", "12x", "12x20x3", "wide"])
def test_a_size_that_is_none_is_refused(
    size: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--data", "digits", "--size", size]) == 2
    assert f"{size!r}: expected pixels, the side of a square or HEIGHT" in capsys.readouterr().err


@pytest.mark.long
def test_a_rectangle_too_small_for_the_network_is_refused(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[Any] = ["train", "--data", f"folder:{place / 'images'}", "--out", tmp_path / "r"]
    assert (
        main([str(one) for one in (*given, "--network", "slim/alexnet_v2", "--size", "224x64")])
        == 2
    )
    assert "image of 224x64 pixels: this is too small for alexnet_v2" in capsys.readouterr().err


def test_images_of_a_squashed_set_are_seen_whole(place: Path, tmp_path: Path) -> None:
    train(place, tmp_path / "run", "--size", "12x20", "--resize", "squash")
    rule = forebear.load(tmp_path / "run").preprocessing
    image = np.zeros((30, 60, 3), np.uint8)
    image[:, :6] = image[:, -6:] = 255  # what a crop would cut off
    seen = forebear.load(tmp_path / "run").preprocess(image)[0, 0] * rule.std[0] + rule.mean[0]
    assert seen[:, 0].min() > 0.9
    assert seen[:, -1].min() > 0.9
