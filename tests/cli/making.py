"""A tiny data set that a tiny network learns in a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

TABLE = """
name = "tiny"
form = "basic"
image_size = 16
[[root]]
kind = "conv"
name = "conv1"
channels = 8
kernel = 3
[[blocks]]
name = "block1"
units = 1
width = 8
channels = 8
[[blocks]]
name = "block2"
units = 1
width = 16
channels = 16
stride = 2
"""
CLASSES = ("across", "down", "grey")


def image(kind: int, seed: int, side: int = 16) -> np.ndarray:
    """Stripes across, stripes down or none, with noise: uint8 [side, side, 3]."""
    random = np.random.default_rng((kind, seed))
    wave = 90 * np.sign(np.sin(np.arange(side) * 2 * np.pi / 4 + random.uniform(0, 6)))
    stripes = {0: wave[:, None, None], 1: wave[None, :, None], 2: np.zeros((1, 1, 1))}[kind]
    values = 128 + stripes + random.normal(0, 20, (side, side, 3))
    return values.clip(0, 255).astype(np.uint8)


def folder(path: Path, count: int = 20) -> Path:
    """A folder a class with `count` images each."""
    for kind, name in enumerate(CLASSES):
        (path / name).mkdir(parents=True)
        for seed in range(count):
            Image.fromarray(image(kind, seed)).save(path / name / f"{seed}.png")
    return path


def table(path: Path) -> Path:
    """The tiny table as a file."""
    path.write_text(TABLE)
    return path
