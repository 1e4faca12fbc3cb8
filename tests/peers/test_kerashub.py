"""KerasHub gives the same logits for the preset that forebear wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import forebear
from forebear.tables.dialects import Dialect
from forebear.tables.rows import Table
from forebear.weights.writers.kerashub_folder import write_kerashub
from tests.weights.writers.test_kerashub_folder import BOTTLENECK, CASES, initial

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("default")]
LARGEST = 3e-6  # of a difference, as a share of the largest value
LEVEL = 1 / 255 / 0.225  # one level of a pixel, as preprocessed: about 0.017


def seeded(name: str) -> forebear.Network:
    """A published network with random weights whose activations keep their scale."""
    torch.manual_seed(0)
    network: forebear.Network = forebear.create(name, num_classes=10)
    for key, one in network.state_dict().items():
        if ".norm." in key and one.ndim == 1:
            one.copy_(0.1 * torch.randn_like(one) + (0.0 if "bias" in key or "mean" in key else 1))
    return network.eval()


def agrees(found: Any, network: forebear.Network, images: np.ndarray[Any, Any]) -> None:
    with torch.inference_mode():
        ours = network(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    theirs = np.asarray(found)
    assert theirs.shape == ours.shape
    assert np.abs(theirs - ours).max() < LARGEST * np.abs(ours).max()


@pytest.mark.parametrize(("table", "dialect"), CASES)
def test_the_classifier_gives_the_same_logits(
    table: Table, dialect: Dialect, tmp_path: Path
) -> None:
    keras_hub = pytest.importorskip("keras_hub")
    network = initial(table, dialect)
    write_kerashub(tmp_path, network)
    classifier = keras_hub.models.ImageClassifier.from_preset(str(tmp_path))
    images = np.random.default_rng(0).normal(size=(2, 65, 50, 3)).astype(np.float32)
    agrees(classifier(images), network, images)


@pytest.mark.parametrize(
    "name", ["torchvision/resnet18", "torchvision/resnet50", "timm/resnetv2_50"]
)
def test_a_published_network_gives_the_same_logits(name: str, tmp_path: Path) -> None:
    keras_hub = pytest.importorskip("keras_hub")
    network = seeded(name)
    write_kerashub(tmp_path, network)
    classifier = keras_hub.models.ImageClassifier.from_preset(str(tmp_path))
    assert classifier.preprocessor is None  # the centre crop is smaller than the resized image
    images = np.random.default_rng(0).normal(size=(1, 224, 224, 3)).astype(np.float32)
    agrees(classifier(images), network, images)


def test_the_backbone_gives_the_same_features(tmp_path: Path) -> None:
    keras_hub = pytest.importorskip("keras_hub")
    network = initial(num_classes=None)
    write_kerashub(tmp_path, network)
    body = keras_hub.models.Backbone.from_preset(str(tmp_path))
    images = np.random.default_rng(0).normal(size=(2, 65, 50, 3)).astype(np.float32)
    agrees(np.asarray(body(images)).mean(axis=(1, 2)), network, images)


def test_the_preprocessor_gives_nearly_the_same_pixels_of_a_square(tmp_path: Path) -> None:
    keras_hub = pytest.importorskip("keras_hub")
    network = initial(BOTTLENECK)
    write_kerashub(tmp_path, network)
    given = keras_hub.models.ImageClassifierPreprocessor.from_preset(str(tmp_path))
    image = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)  # the worst case
    theirs = np.asarray(given(image[None]))[0]
    ours = network.preprocess(image).numpy()[0].transpose(1, 2, 0)
    assert theirs.shape == ours.shape
    assert np.abs(theirs - ours).mean() < 0.5 * LEVEL
