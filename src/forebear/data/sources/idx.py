"""MNIST-like data sets: greyscale images and labels in idx files (LeCun, Cortes, Burges 1998)."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from forebear.data.dataset import ArrayImages, Dataset
from forebear.data.sources.label_checks import checked_labels, numbered_classes
from forebear.data.sources.split import given
from forebear.errors import DataError
from forebear.text import printable

_MOST_BYTES = 2 * 2**30  # limit for an unpacked file; EMNIST's largest, 697,932 images, has 0.55 GB
_UNSIGNED_BYTE = 8  # the data type in the third byte of an idx file
_PARTS = {"train": "train", "test": "t10k"}
_LAYOUT = (
    "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and "
    "t10k-labels-idx1-ubyte, each with or without .gz appended"
)


def read_idx(folder: Path, spec: str) -> Dataset:
    """Reads the training and test images of MNIST, Fashion-MNIST, KMNIST and similar data sets.

    Classes are named by their index, because the files have no names. Horizontal flips are
    disabled, because most of these data sets contain characters.

    Raises:
        DataError: A file is missing, damaged, or not in this format.
    """
    train, val = (_images(folder, part) for part in _PARTS)
    if train.pixels.shape[1:] != val.pixels.shape[1:]:
        raise DataError(
            f"{printable(folder)}: training images {list(train.pixels.shape[1:3])}, test images "
            f"{list(val.pixels.shape[1:3])}. Expected equal shapes. Download the files again."
        )
    where = f"{printable(folder)}: labels"
    classes = numbered_classes(train.labels, where, remedy="convert the data to one folder a class")
    checked_labels(val.labels, classes, where)
    return given(
        train,
        val,
        spec=spec,
        classes=classes,
        side=min(train.pixels.shape[1:3]),
        mirror=False,
        split="the official training and test files",
    )


def _images(folder: Path, part: str) -> ArrayImages:
    begin = _PARTS[part]
    images, labels = _find(folder, f"{begin}-images", 3), _find(folder, f"{begin}-labels", 1)
    pixels, numbers = _array(images, 3), _array(labels, 1)
    if len(pixels) != len(numbers):
        raise DataError(
            f"{printable(images)}: {len(pixels)} images, but {len(numbers)} labels in "
            f"{printable(labels.name)}. Expected one label per image. Download both files again."
        )
    if not pixels.size:
        raise DataError(
            f"{printable(images)}: no pixels, {list(pixels.shape)}. Expected images. "
            "Download the file again."
        )
    return ArrayImages(pixels[..., None], numbers.astype(np.int64), f"{folder} {part}")


def _find(folder: Path, name: str, axes: int) -> Path:
    """Returns the path of a file. Some copies have a dot instead of the hyphen before idx."""
    names = [f"{name}{mark}idx{axes}-ubyte{end}" for mark in "-." for end in ("", ".gz")]
    found = next((folder / name for name in names if (folder / name).is_file()), None)
    if found is None:
        raise DataError(
            f"{printable(folder)}: no {names[0]} inside. Expected {_LAYOUT}. Download the files."
        )
    return found


def _array(path: Path, axes: int) -> NDArray[np.uint8]:
    """Returns the bytes of an idx file in the shape that its header declares.

    The header is two zero bytes, the data type, the number of axes, and the length of each axis as
    a 4-byte big-endian integer.
    """
    content = _content(path)
    start = 4 + 4 * axes
    if content[:4] != bytes((0, 0, _UNSIGNED_BYTE, axes)) or len(content) < start:
        raise DataError(
            f"{printable(path)}: begins with {content[:4]!r}. Expected an idx file of unsigned "
            f"bytes with {axes} axes. Download it again."
        )
    shape = tuple(int(side) for side in np.frombuffer(content[4:start], ">u4"))
    count = 1
    for side in shape:  # Python integers, because a malicious header can overflow numpy's
        count *= side
    if len(content) - start != count:
        raise DataError(
            f"{printable(path)}: {len(content) - start} bytes after the header, which declares "
            f"{list(shape)}. Expected {count} bytes. Download the file again."
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _content(path: Path) -> bytes:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{printable(path)}: cannot be read ({error}). Expected a complete idx file. "
            "Download it again."
        ) from error
    if len(content) > _MOST_BYTES:
        raise DataError(
            f"{printable(path)}: more than {_MOST_BYTES >> 30} GiB when unpacked. Expected a data "
            "set that fits in memory. Download it from its publisher."
        )
    return content
