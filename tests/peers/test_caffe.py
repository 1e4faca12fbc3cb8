"""OpenCV, whose importer follows Caffe, gives the same logits for the same Caffe model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import forebear
from forebear.tables.registry import find
from tests.network.making import make
from tests.weights.caffe_making import CAFFE, layers_of, net, prototxt

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("default")]


@pytest.mark.parametrize("name", ["resnet50", "resnext50_32x4d"])
@pytest.mark.parametrize("bias", [False, True])
def test_opencv_gives_the_same_logits(name: str, bias: bool, tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    layers = layers_of(make(find(f"torchvision/{name}").table, CAFFE, num_classes=10), bias=bias)
    (tmp_path / "a.caffemodel").write_bytes(net(layers))
    (tmp_path / "a.prototxt").write_text(prototxt(layers))
    images = np.random.default_rng(0).normal(size=(2, 3, 224, 224)).astype(np.float32)
    peer = cv2.dnn.readNetFromCaffe(str(tmp_path / "a.prototxt"), str(tmp_path / "a.caffemodel"))
    peer.setInput(images)
    expected = peer.forward("fc1000").reshape(2, 10)
    with torch.inference_mode():
        found = forebear.load(tmp_path / "a.caffemodel").eval()(torch.from_numpy(images)).numpy()
    assert np.abs(found - expected).max() < 3e-6 * np.abs(expected).max()
