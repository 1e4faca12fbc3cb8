"""Flax gives the same logits for the file that it wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import forebear
from tests.peers.flax_example import variables_and_logits

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("default")]


@pytest.mark.parametrize(
    ("form", "units", "side"),
    [("basic", (2, 2, 2, 2), 224), ("bottleneck", (3, 4, 6, 3), 224), ("bottleneck", (1, 2), 75)],
)
def test_flax_gives_the_same_logits(
    form: str, units: tuple[int, ...], side: int, tmp_path: Path
) -> None:
    pytest.importorskip("flax")
    images = np.random.default_rng(0).normal(size=(2, side, side, 3)).astype(np.float32)
    made, expected = variables_and_logits(form, units, images, classes=10, filters=64)
    (tmp_path / "a.msgpack").write_bytes(made)
    with torch.inference_mode():
        network = forebear.load(tmp_path / "a.msgpack")
        found = network(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    assert np.abs(found - expected).max() < 3e-6 * np.abs(expected).max()
