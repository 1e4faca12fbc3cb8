"""Small data sets for the scenarios."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("across", "coarse", "down", "fine", "grey", "red")  # torchvision's top 5 needs five
TRAIN, VAL, SIDE, BATCH = 16, 4, 32, 8  # images a class; pixels; images a step
STEPS = TRAIN * len(CLASSES) // BATCH  # an epoch


def image(kind: int, numbers: np.random.Generator, side: int = SIDE) -> Image.Image:
    period = 4 if kind < 4 and kind % 2 == 0 else 2
    wave = 90 * np.sign(np.sin(np.arange(side) * np.pi / period + numbers.uniform(0, 6)))
    plain = np.array([[[0, 0, 0]], [[90, -90, -90]]])
    stripes = (wave[:, None, None], wave[None, :, None], plain[kind % 2])[kind // 2]
    values = 128 + stripes + numbers.normal(0, 20, (side, side, 3))
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def folder(root: Path, val: str = "val") -> Path:
    """root/train and root/val with six classes of PNG images."""
    numbers = np.random.default_rng(0)
    for split, count in (("train", TRAIN), (val, VAL)):
        for kind, name in enumerate(CLASSES):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                image(kind, numbers).save(root / split / name / f"{number:02}.png")
    return root


def copied(root: Path, to: Path) -> Path:
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(root, to, symlinks=True)
    return to
