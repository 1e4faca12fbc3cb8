"""Multi-label images and networks for tests: stripes across, stripes down, and bright images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

import forebear
from forebear import Network
from forebear.network.multi_label import MultiLabel
from tests.cli.making import table as tiny_table

LABELS = ("across", "down", "bright")
SIDE = 16  # pixels


def multi_image(bits: tuple[int, ...], seed: int) -> np.ndarray:
    """An image with these labels, uint8 [16, 16, 3]."""
    random = np.random.default_rng((*bits, seed))
    wave = 60 * np.sign(np.sin(np.arange(SIDE) * 2 * np.pi / 4 + random.uniform(0, 6)))
    values = np.full((SIDE, SIDE, 3), 160.0 if bits[2] else 90.0)
    values += bits[0] * wave[:, None, None] + bits[1] * wave[None, :, None]
    noisy = values + random.normal(0, 8, values.shape)
    return noisy.clip(0, 255).astype(np.uint8)


def multi_table(folder: Path, count: int = 24, *, columns: bool = True) -> Path:
    """A CSV with `count` images in all combinations of labels, in one of both forms."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["image," + (",".join(LABELS) if columns else "label")]
    for at in range(count):
        bits = tuple(at >> place & 1 for place in range(3))
        Image.fromarray(multi_image(bits, at)).save(folder / f"{at}.png")
        names = [name for name, bit in zip(LABELS, bits, strict=True) if bit]
        cell = ",".join(map(str, bits)) if columns else ";".join(names)
        lines.append(f"{at}.png,{cell}")
    file = folder / "labels.csv"
    file.write_text("\n".join(lines))
    return file


def multi_network(*, several: bool = True, thresholds: tuple[float, ...] = (0.5,) * 3) -> Network:
    """An untrained network with the labels, in evaluation mode."""
    net = forebear.create("paper/resnet20", num_classes=3).eval()
    rule = replace(net.preprocessing, size=SIDE, side=SIDE)
    labels = MultiLabel(thresholds=thresholds, images=24) if several else None
    net.card = replace(net.card, classes=LABELS, preprocessing=rule, multi_label=labels)
    return net


def words(folder: Path, *more: object, count: int = 96, columns: bool = True) -> list[str]:
    """The arguments of a short training on such images, into folder / "run"."""
    data = multi_table(folder / "data", count, columns=columns)
    given = [
        "train", "--data", f"csv:{data}", "--network", tiny_table(folder / "tiny.toml"),
        "--dialect", "torchvision", "--out", folder / "run", "--epochs", 6, "--batch", 8,
        "--threads", 1, "--device", "cpu", *more,
    ]  # fmt: skip
    return [str(one) for one in given]
