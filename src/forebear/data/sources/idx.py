"""MNIST-like data sets: greyscale images and labels in idx files (LeCun, Cortes, Burges 1998)."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from forebear.data.dataset import ArrayImages, Dataset
from forebear.data.sources.data_room import data_room
from forebear.data.sources.label_checks import checked_labels, numbered_classes
from forebear.data.sources.split import given
from forebear.errors import DataError
from forebear.limits import MIB
from forebear.text import printable
from forebear.untrusted import opened

_DEFLATED = 1032  # bytes that a byte of gzip can unpack to, at most
_PIECE = 16 * MIB  # bytes per read
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
    a 4-byte big-endian integer. It is compared with the limits before anything else is read.
    """
    shown, start = printable(path), 4 + 4 * axes
    try:
        with opened(path) as raw, _unpacked(raw, path) as file:
            head = file.read(start)
            if head[:4] != bytes((0, 0, _UNSIGNED_BYTE, axes)) or len(head) < start:
                raise DataError(
                    f"{shown}: begins with {head[:4]!r}. Expected an idx file of unsigned bytes "
                    f"with {axes} axes. Download it again."
                )
            shape = tuple(int(side) for side in np.frombuffer(head[4:], ">u4"))
            count = math.prod(shape)  # of Python integers, which do not overflow
            _check_size(shown, shape, os.fstat(raw.fileno()).st_size, packed=file is not raw)
            content = np.empty(count, dtype=np.uint8)
            found = _fill(content, file)
    except (OSError, EOFError, zlib.error) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(
            f"{shown}: cannot be read ({printable(why)}). Expected a complete idx file. "
            "Download it again."
        ) from error
    if found != count:
        more = "more than " if found > count else ""
        raise DataError(
            f"{shown}: {more}{min(found, count)} bytes after the header, which declares "
            f"{list(shape)}. Expected {count} bytes. Download the file again."
        )
    return content.reshape(shape)


def _unpacked(raw: IO[bytes], path: Path) -> AbstractContextManager[IO[bytes]]:
    if path.suffix == ".gz":
        return cast("AbstractContextManager[IO[bytes]]", gzip.GzipFile(fileobj=raw))
    return nullcontext(raw)


def _check_size(shown: str, shape: tuple[int, ...], size: int, *, packed: bool) -> None:
    """Refuses a header that claims more than the file can hold, or than fits in memory."""
    count = math.prod(shape)
    most = min(data_room(), _DEFLATED * size if packed else size)
    if count > most:
        raise DataError(
            f"{shown}: its header declares {list(shape)}, {count:,} bytes. Expected at most "
            f"{most:,}, by the size of the file and the memory of this machine. Download it from "
            "its publisher."
        )


def _fill(content: NDArray[np.uint8], file: IO[bytes]) -> int:
    """Reads the array in pieces; returns the bytes that there were, up to one more than it has."""
    start = 0
    while start < len(content):
        piece = file.read(min(_PIECE, len(content) - start))
        if not piece:
            return start
        content[start : start + len(piece)] = np.frombuffer(piece, np.uint8)
        start += len(piece)
    return start + len(file.read(1))
