"""Small data sets with known faults, and a network that has learned nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image

from forebear.data.dataset import Dataset, EncodedImages
from forebear.network.network import Network
from tests.cli.making import image
from tests.data.making import encoded
from tests.network.making import make

CLASSES = ("across", "down", "grey")
Rows = list[tuple[str, bytes, int]]  # name, content and label


def rows(count: int, first: int = 0, side: int = 40) -> Rows:
    """Stripes across, stripes down and plain noise: `count` images of each."""
    return [
        (f"{name}/{seed}.png", png(image(kind, seed, side)), kind)
        for kind, name in enumerate(CLASSES)
        for seed in range(first, first + count)
    ]


def png(pixels: np.ndarray) -> bytes:
    return encoded(Image.fromarray(pixels), "PNG")


def dataset(train: Rows, val: Rows, fingerprint: str = "f") -> Dataset:
    """The images as a data set."""
    return Dataset(
        spec="folder:made",
        classes=CLASSES,
        train=images(train),
        val=images(val),
        side=40,
        mirror=False,
        split="made by hand",
        fingerprint=fingerprint,
    )


def images(some: Rows) -> EncodedImages:
    labels = np.array([label for _, _, label in some], np.int64)
    return EncodedImages([row[1] for row in some], [row[0] for row in some], labels)


def network(**metrics: object) -> Network:
    """A small network of these classes, whose card has some metrics."""
    net = make("paper/resnet20", num_classes=3)
    net.card = replace(net.card, classes=CLASSES, metrics=metrics)
    return net
