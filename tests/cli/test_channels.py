"""Images of any number of channels and of 16 bits, from train through every later verb."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import forebear
from forebear.cli.main import main
from forebear.tasks.runs.read import read_run
from tests.cli import making


def pictures(count: int, channels: int, deep: bool) -> tuple[NDArray[Any], NDArray[Any]]:
    """Stripes in all channels; deep samples lie between 1000 and 3000."""
    labels = np.arange(count) % 3
    images = np.stack([making.image(int(kind), seed) for seed, kind in enumerate(labels)])
    bands = images[..., np.arange(channels) % 3]
    bands[..., -1] = 255 - bands[..., -1]
    if deep:
        return (1000 + bands.astype(np.int64) * 2000 // 255).astype(np.uint16), labels
    return bands, labels


def saved(path: Path, channels: int, *, deep: bool = False) -> Path:
    x_train, y_train = pictures(48, channels, deep)
    x_test, y_test = pictures(12, channels, deep)
    names = np.array(making.CLASSES)
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test, classes=names)
    return path


def train(place: Path, data: str, run: Path, *more: str) -> int:
    table = str(making.table(place / "tiny.toml"))
    given = ("--data", data, "--network", table, "--dialect", "torchvision", "--epochs", "3")
    return main(["train", *given, "--batch", "8", "--out", str(run), *more])


@pytest.mark.parametrize(("channels", "deep"), [(4, False), (2, False), (6, True), (3, True)])
@pytest.mark.long
def test_arrays_of_any_channels_go_from_check_to_predict(
    channels: int, deep: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = f"npz:{saved(tmp_path / 'set.npz', channels, deep=deep)}", tmp_path / "run"
    assert main(["check", data]) == 0
    assert train(tmp_path, data, run, *(("--sample-range", "auto") if deep else ())) == 0
    network = forebear.load(run)
    rule = network.preprocessing
    assert rule.order == ("RGB" if channels == 3 else "any")
    assert (rule.channels, network.plan.in_channels) == (channels, channels)
    samples = pictures(48, channels, deep)[0]
    assert rule.levels == ((samples.min(), samples.max()) if deep else None)
    if channels != 3:  # measured on the training images
        x_train = samples.astype(np.float64)
        low, high = rule.levels or (0, 255)
        scaled = ((x_train - low) / (high - low)).reshape(-1, channels)
        assert rule.mean == pytest.approx(scaled.mean(0), abs=2e-3)
        assert rule.std == pytest.approx(scaled.std(0), abs=2e-3)

    capsys.readouterr()
    assert main(["evaluate", str(run), "--data", data, "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    log = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert measured["top1"] == pytest.approx(log["val_accuracy"])

    files = []
    for number in range(6):
        files.append(str(tmp_path / f"{number}.npy"))
        np.save(files[-1], pictures(6, channels, deep)[0][number])
    assert main(["predict", str(run), *files, "--json", "--engine", "torch"]) == 0
    known = [json.loads(line)["classes"][0] for line in capsys.readouterr().out.splitlines()]
    assert len(known) == 6
    pytest.importorskip("onnxruntime")
    graph = tmp_path / "m.onnx"
    export = ("export", str(run), "--to", "onnx", "--out", str(graph), "--with-preprocessing")
    assert main([*export]) == 0
    capsys.readouterr()
    assert main(["predict", str(graph), *files, "--json"]) == 0
    found = [json.loads(line)["classes"][0] for line in capsys.readouterr().out.splitlines()]
    assert [one["class"] for one in found] == [one["class"] for one in known]


@pytest.fixture
def rgba(tmp_path: Path) -> Path:
    """A folder whose classes differ in the transparency alone."""
    for kind, name in enumerate(making.CLASSES):
        (tmp_path / "images" / name).mkdir(parents=True)
        for seed in range(12):
            pixels = np.full((16, 16, 4), 128, np.uint8)
            pixels[..., 3] = making.image(kind, seed)[..., 0]
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{seed}.png")
    return tmp_path / "images"


@pytest.mark.long
def test_four_raw_channels_of_files_are_asked_for(
    rgba: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = f"folder:{rgba}", tmp_path / "run"
    assert train(tmp_path, data, run, "--channels", "4") == 0
    network = forebear.load(run)
    assert (network.preprocessing.channels, network.plan.in_channels) == (4, 4)
    assert read_run(run).part("request")["channels"] == 4
    assert main(["train", "--resume", str(run), "--epochs", "4"]) == 0
    assert main(["evaluate", str(run), "--data", data]) == 0
    photograph = tmp_path / "photo.jpg"
    Image.fromarray(making.image(0, 0)).save(photograph)
    capsys.readouterr()
    assert main(["predict", str(run), str(photograph)]) != 0
    said = capsys.readouterr().err
    assert "photo.jpg: 3 channels (its mode is RGB). Expected 4 channels, as the network" in said


def test_files_can_be_read_as_grey(rgba: Path, tmp_path: Path) -> None:
    assert train(tmp_path, f"folder:{rgba}", tmp_path / "run", "--channels", "1") == 0
    assert forebear.load(tmp_path / "run").preprocessing.order == "L"


@pytest.mark.long
def test_weights_for_colours_are_adapted_and_those_for_other_channels_are_refused(
    rgba: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    four, three = tmp_path / "four", tmp_path / "three"
    assert train(tmp_path, f"folder:{rgba}", three, "--epochs", "1") == 0
    weights: tuple[str, ...] = ("--weights", str(three / "model.safetensors"))
    capsys.readouterr()
    assert train(tmp_path, f"folder:{rgba}", four, *weights, "--channels", "4") == 0
    said = capsys.readouterr().err
    assert "root.conv1: the images have 4 channels, the checkpoint takes 3, so its filters" in said
    rule = forebear.load(four).preprocessing
    assert (rule.order, rule.channels) == ("any", 4)
    assert rule.mean[0] == pytest.approx(128 / 255, abs=1e-3)  # measured
    assert rule.std[3] == pytest.approx(0.3, abs=0.05)
    grey = tmp_path / "grey"
    assert train(tmp_path, f"folder:{rgba}", grey, *weights, "--channels", "1") == 0
    assert "channel, the checkpoint takes 3, so its filters are summed" in capsys.readouterr().err
    rule = forebear.load(grey).preprocessing
    assert (rule.order, len(rule.mean)) == ("L", 1)
    assert 0.3 < rule.mean[0] < 1  # measured too
    weights = ("--weights", str(four / "model.safetensors"))
    assert train(tmp_path, f"folder:{rgba}", tmp_path / "a", *weights) == 2
    assert (
        "images of 3 channels. Expected 4, as the network of --weights" in capsys.readouterr().err
    )


@pytest.mark.parametrize("field", ["policy=randaugment", "jitter=0.4"])
def test_augmentation_of_colours_is_refused_for_other_channels(
    field: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = f"npz:{saved(tmp_path / 'set.npz', 4)}"
    assert train(tmp_path, data, tmp_path / "run", "--set", field) == 2
    said = capsys.readouterr().err
    assert f"{field} with images of 4 channels: it changes colours. Expected" in said


@pytest.mark.parametrize("kind", ["folder", "csv"])
def test_array_files_are_the_images_of_a_folder_or_a_table(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, labels = pictures(36, 5, deep=True)
    rows = ["image,label"]
    for number, (pixels, label) in enumerate(zip(images, labels, strict=True)):
        folder = tmp_path / "images" / making.CLASSES[label]
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{number}.npy", pixels)
        rows.append(f"images/{folder.name}/{number}.npy,{folder.name}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    data = f"folder:{tmp_path / 'images'}" if kind == "folder" else f"csv:{tmp_path / 'labels.csv'}"
    assert main(["check", data]) == 0
    out = capsys.readouterr().out
    assert "skipped" not in out
    assert "uint16 x 5" in out
    flags = ("--channels", "5", "--sample-range", "auto")
    assert train(tmp_path, data, tmp_path / "run", *flags) == 0
    rule = forebear.load(tmp_path / "run").preprocessing
    assert (rule.channels, rule.order) == (5, "any")
    assert rule.levels is not None
    assert images.min() <= rule.levels[0] < 1500  # of the training images
    assert 2500 < rule.levels[1] <= images.max()
    assert main(["evaluate", str(tmp_path / "run"), "--data", data]) == 0


def test_arrays_next_to_images_are_skipped(rgba: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(rgba / making.CLASSES[0] / "features.npy", np.zeros((3, 3), np.uint8))
    assert main(["check", f"folder:{rgba}"]) == 0
    assert "1 file skipped: 1 NumPy array" in capsys.readouterr().out
