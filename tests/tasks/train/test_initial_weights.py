"""Checkpoints for colours in networks for other channels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import forebear
from forebear.data.dataset import ArrayImages, Dataset
from forebear.data.sources.split import given
from forebear.errors import WeightsError
from forebear.tables.preprocessing import KERAS_CAFFE, TORCHVISION, Preprocessing
from forebear.tasks.train.initial_weights import load_initial_weights
from forebear.tasks.train.recipe_files import read_recipe
from forebear.tasks.train.request import TrainConfig
from forebear.weights.adapt_channels import adapt_channels
from forebear.weights.native_format import save
from tests.cli.making import table

FIRST = "root.conv1.conv.weight"


def checkpoint(folder: Path, rule: Preprocessing = TORCHVISION, channels: int = 3) -> Path:
    network = created(folder, channels, 2, seed=1)
    network.card = replace(network.card, classes=("a", "b"), preprocessing=rule)
    path = folder / "base.safetensors"
    save(network, path)
    return path


def created(folder: Path, channels: int, classes: int, seed: int) -> forebear.Network:
    return forebear.create(
        table(folder / "tiny.toml"),
        dialect="torchvision",
        num_classes=classes,
        in_channels=channels,
        generator=torch.Generator().manual_seed(seed),
    )


def dataset(channels: int, classes: int) -> Dataset:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 8, 8, channels), dtype=np.uint8)
    images = ArrayImages(pixels, np.arange(12) % classes, "x")
    names = tuple("abc"[:classes])
    return given(images, images, spec="npz:x", classes=names, side=8, split="given")


def loaded(
    folder: Path, path: Path, channels: int, classes: int = 2, *, partial: bool = False
) -> tuple[forebear.Network, tuple[str, ...]]:
    network = created(folder, channels, classes, seed=2)
    network.card = forebear.load(path).card
    config = TrainConfig(data="npz:x", weights=path, partial=partial)
    recipe = read_recipe("default")
    return network, load_initial_weights(network, config, dataset(channels, classes), recipe)


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_the_first_convolution_is_adapted_and_all_else_is_loaded(
    tmp_path: Path, channels: int
) -> None:
    path = checkpoint(tmp_path)
    network, (line,) = loaded(tmp_path, path, channels)
    given_, found = forebear.load(path).state_dict(), network.state_dict()
    expected = adapt_channels(given_.pop(FIRST), channels, order="RGB")
    torch.testing.assert_close(found.pop(FIRST), expected)
    assert all(torch.equal(value, found[name]) for name, value in given_.items())
    assert line.startswith(f"root.conv1: the images have {channels} channel")
    how = "summed over" if channels == 1 else f"repeated and multiplied by 3/{channels}"
    assert how in line
    assert line.endswith("mean 0 and standard deviation 1, as measured on the training images")


def test_the_inputs_get_the_range_that_the_checkpoint_was_trained_for(tmp_path: Path) -> None:
    network, (line,) = loaded(tmp_path, checkpoint(tmp_path, KERAS_CAFFE), 4)
    assert "standard deviation 57.6," in line  # its inputs are pixel values less their mean
    kernel = forebear.load(tmp_path / "base.safetensors").state_dict()[FIRST]
    torch.testing.assert_close(network.state_dict()[FIRST][:, 0], kernel[:, 2] * 0.75)  # BGR


def test_three_channels_are_taken_as_they_are(tmp_path: Path) -> None:
    path = checkpoint(tmp_path)
    network, notes = loaded(tmp_path, path, 3)
    assert notes == ()
    assert torch.equal(network.state_dict()[FIRST], forebear.load(path).state_dict()[FIRST])


def test_logits_of_other_classes_stay_as_they_were(tmp_path: Path) -> None:
    path = checkpoint(tmp_path)
    with pytest.raises(WeightsError, match=r"of the wrong shape \(shape: "):
        loaded(tmp_path, path, 4, classes=3)
    before = created(tmp_path, 4, 3, seed=2).state_dict()
    network, notes = loaded(tmp_path, path, 4, classes=3, partial=True)
    assert torch.equal(network.state_dict()["logits.weight"], before["logits.weight"])
    assert "root.conv1: the images have 4 channels" in notes[0]
    assert "random, as " in notes[1]
    assert "root.conv1" not in notes[1]


def test_a_checkpoint_of_other_channels_is_not_adapted(tmp_path: Path) -> None:
    path = checkpoint(
        tmp_path, replace(TORCHVISION, order="any", mean=(0.0,) * 4, std=(1.0,) * 4), 4
    )
    with pytest.raises(WeightsError, match=r"\[8, 4, 3, 3\], expected \[8, 6, 3, 3\]"):
        loaded(tmp_path, path, 6)
