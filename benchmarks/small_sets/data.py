"""Four small data sets as folders of images, and their splits: the same files for all contenders.

WORK/sets/SET/train/CLASS and WORK/sets/SET/test/CLASS hold the images. A split has the layout that
every contender reads, of symbolic links: train/CLASS, and val/CLASS with a few further images of
the training set, as some contenders need a validation set. No contender may choose anything by it.
"""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SETS = ("imagenette", "cifar10", "fashion", "digits")
SIZES = {"imagenette": 96, "cifar10": 64, "fashion": 64, "digits": 64}  # input size in pixels
POOL, TEST = 3000, 1000  # images that splits are drawn from, and images that measure the result
VALIDATION = 4  # further images of each class
CLOTHES = (
    "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot",
)  # fmt: skip
THINGS = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the data sets are."""

    shared: Path  # holds imagenette/ and cifar10_exact_subset.npz
    fashion: Path  # holds the four files of Fashion-MNIST


def base_folder(sources: Sources, work: Path) -> Path:
    """Returns a folder with the first five classes of Imagenette, for the base weights."""
    folder = work / "base-data"
    if not folder.exists():
        for part in ("train", "val"):
            (folder / part).mkdir(parents=True)
            for own in sorted((sources.shared / "imagenette" / part).iterdir())[:5]:
                (folder / part / own.name).symlink_to(own)
    return folder


def make_set(name: str, sources: Sources, work: Path) -> Path:
    """Returns the folder of a data set, which is written if it is not there yet."""
    folder = work / "sets" / name
    if folder.exists():
        return folder
    partial = folder.with_name(f"{name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for part in ("train", "test"):
        for number, (label, image) in enumerate(_images(name, part, sources)):
            path = partial / part / label / f"{number:05}"
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(image, Path):
                path.with_suffix(".jpg").symlink_to(image)
            else:
                Image.fromarray(image).convert("RGB").save(path.with_suffix(".png"))
    partial.rename(folder)
    return folder


def make_split(folder: Path, count: int, seed: int) -> Path:
    """Returns a split with `count` training images, the same number of each class."""
    split = folder.parents[1] / "splits" / f"{folder.name}-{count}-{seed}"
    if split.exists():
        return split
    partial = split.with_name(f"{split.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    random = np.random.default_rng(seed)
    classes = sorted((folder / "train").iterdir())
    each = count // len(classes)
    for own in classes:
        files = sorted(own.iterdir())
        chosen = random.permutation(len(files))[: each + VALIDATION]
        for place, number in enumerate(chosen):
            part = "train" if place < each else "val"
            (partial / part / own.name).mkdir(parents=True, exist_ok=True)
            link = partial / part / own.name / files[number].name
            link.symlink_to(files[number].resolve())
    partial.rename(split)
    return split


def _images(name: str, part: str, sources: Sources) -> Iterator[tuple[str, Path | NDArray]]:
    """Yields class names and images of a part, up to POOL or TEST of them."""
    most = POOL if part == "train" else TEST
    if name == "imagenette":
        inside = sources.shared / "imagenette" / ("train" if part == "train" else "val")
        for own in sorted(inside.iterdir())[5:]:
            for path in sorted(own.iterdir())[: most // 5]:
                yield own.name, path.resolve()
        return
    images, labels, names = _arrays(name, part, sources)
    for image, label in zip(images[:most], labels[:most].tolist(), strict=True):
        yield names[label], image


def _arrays(name: str, part: str, sources: Sources) -> tuple[NDArray, NDArray, tuple[str, ...]]:
    if name == "cifar10":
        data = np.load(sources.shared / "cifar10_exact_subset.npz")
        return data[f"x_{part}"], data[f"y_{part}"], THINGS
    if name == "fashion":
        start = sources.fashion / ("train" if part == "train" else "t10k")
        images = gzip.decompress(Path(f"{start}-images-idx3-ubyte.gz").read_bytes())
        labels = gzip.decompress(Path(f"{start}-labels-idx1-ubyte.gz").read_bytes())
        pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28)
        return pixels, np.frombuffer(labels, np.uint8, offset=8), CLOTHES
    from sklearn.datasets import load_digits

    data = load_digits()
    pixels = (data.images * 15.9375).astype(np.uint8)  # 0 to 16 in the file
    own = slice(0, 1297) if part == "train" else slice(1297, None)
    return pixels[own], data.target[own], tuple(f"digit{n}" for n in range(10))
