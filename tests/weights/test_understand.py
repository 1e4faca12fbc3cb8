"""A checkpoint of grey images turns images grey, wherever it is used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import forebear
from forebear.cli.main import main
from forebear.tables.preprocessing import CIFAR, SLIM_VGG
from forebear.weights.understand import for_channels
from tests.network.making import make
from tests.weights.forms import saved, state


@pytest.fixture
def grey(tmp_path: Path) -> Path:
    """A checkpoint of a network with one input channel."""
    network = make("paper/resnet20", num_classes=2, in_channels=1)
    return saved(tmp_path, {"model": state(network), "optim": {"momentum": torch.ones(3)}})


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for name, colour in (("a", (250, 10, 10)), ("b", (10, 10, 250))):
        for number in range(4):
            path = tmp_path / "pictures" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 40), tuple(value + number for value in colour)).save(path)
    return tmp_path / "pictures"


def test_one_channel_has_the_mean_of_the_colours() -> None:
    rule, notes = for_channels(CIFAR, 1)
    assert (rule.order, rule.mean, rule.std) == ("L", (0.449,), (0.226,))
    assert "images turn grey, with mean 0.449 and std 0.226" in notes[0]
    assert for_channels(SLIM_VGG, 1)[0].std == (1.0,)
    assert for_channels(CIFAR, 3) == (CIFAR, ())
    rule, notes = for_channels(CIFAR, 5)
    assert rule == CIFAR
    assert "takes 5 channels" in notes[0]


@pytest.mark.long
def test_a_grey_checkpoint_predicts_and_evaluates_colour_images(
    grey: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = forebear.load(grey)
    image = Image.new("RGB", (32, 32), (250, 10, 10))
    value = np.float32(image.convert("L").getpixel((0, 0)))  # type: ignore[arg-type]
    found = network.preprocess(image)
    assert found.shape == (1, 1, 32, 32)
    assert torch.allclose(found, torch.full((), float((value / 255 - 0.449) / 0.226)))
    assert main(["predict", "--weights", str(grey), str(pictures / "a" / "0.png")]) == 0
    assert "images turn grey" in capsys.readouterr().err
    assert main(["evaluate", "--weights", str(grey), "--data", f"folder:{pictures}"]) == 0
    assert "images    8" in capsys.readouterr().out


@pytest.mark.long
def test_a_grey_checkpoint_is_trained_further_on_colour_images(
    grey: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--network", "paper/resnet20", "--epochs", "1", "--size", "32", "--batch", "4"]
    data = ["--data", f"folder:{pictures}", "--weights", str(grey)]
    out = tmp_path / "run"
    assert main(["train", *data, *words, "--out", str(out)]) == 0
    assert "took 116 arrays of model; left: optim (1)" in "".join(capsys.readouterr())
    network = forebear.load(out)
    assert network.plan.in_channels == 1
    assert network.preprocessing.order == "L"
    assert main(["predict", str(out), str(pictures / "a" / "0.png")]) == 0
    again = ["--data", f"folder:{pictures}", "--weights", str(out)]
    assert main(["train", *again, *words, "--out", str(tmp_path / "again")]) == 0
    assert forebear.load(tmp_path / "again").plan.in_channels == 1
    capsys.readouterr()
