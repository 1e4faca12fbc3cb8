"""OpenCV, which reads Torch7's networks, gives the same logits for the same file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import forebear
from tests.network.making import make
from tests.weights.torch7_making import model_of, written

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("default")]


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_opencv_gives_the_same_logits(name: str, tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    network = make(f"torchvision/{name}", num_classes=10)
    (tmp_path / "a.t7").write_bytes(written(model_of(network, library="nn")))
    images = np.random.default_rng(0).normal(size=(2, 3, 224, 224)).astype(np.float32)
    peer = cv2.dnn.readNetFromTorch(str(tmp_path / "a.t7"))
    peer.setInput(images)
    expected = peer.forward().reshape(2, 10)
    with torch.inference_mode():
        found = forebear.load(tmp_path / "a.t7").eval()(torch.from_numpy(images)).numpy()
    assert np.abs(found - expected).max() < 3e-6 * np.abs(expected).max()
