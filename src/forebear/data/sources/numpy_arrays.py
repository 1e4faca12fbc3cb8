"""Images in numpy arrays: scikit-learn's digits, and .npz files."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forebear.data.dataset import ArrayImages, Dataset
from forebear.data.sources.data_room import data_room
from forebear.data.sources.label_checks import (
    checked_classes,
    checked_labels,
    numbered_classes,
)
from forebear.data.sources.optional_imports import extra
from forebear.data.sources.split import given, split_validation
from forebear.errors import DataError, near_misses
from forebear.limits import IMAGE_CHANNELS, MIB, UNPACKED_RATIO
from forebear.text import printable, truncated
from forebear.untrusted import opened

DIGITS_SIDE = 32  # pixels: the 8x8 digits are enlarged so that a network can downsample them
DIGITS_VALIDATION_FRACTION = 0.2  # fraction of each class for validation

_NAMES = frozenset(("x_train", "y_train", "x_test", "y_test", "classes"))
_PIECE = 16 * MIB  # bytes per read
_HEADERS: dict[tuple[int, int], Callable[..., tuple[tuple[int, ...], bool, np.dtype[Any]]]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_digits(spec: str) -> Dataset:
    """Returns scikit-learn's 1,797 handwritten digits of 8x8 grey pixels.

    The data set is that of Alpaydin and Kaynak 1998.
    """
    bunch = extra("sklearn.datasets", "scikit-learn").load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, :, :, None]  # 0..16
    return split_validation(
        ArrayImages(pixels, bunch.target.astype(np.int64), "digits"),
        fraction=DIGITS_VALIDATION_FRACTION,
        spec=spec,
        classes=tuple(map(str, bunch.target_names)),
        side=DIGITS_SIDE,
        mirror=False,
    )


def read_npz(path: Path, spec: str) -> Dataset:
    """Reads the arrays x_train, y_train, x_test and y_test, and optionally `classes`.

    Images are uint8 or uint16, [N, H, W] or [N, H, W, C] with any number of channels, and labels
    are integers [N].
    `classes` has the class names. Without it, classes are named by their index.

    Raises:
        DataError: An array is missing, or has another dtype or shape.
    """
    arrays = _load(path)
    train, val = (_images(arrays, part, path) for part in ("train", "test"))
    if train.pixels.dtype != val.pixels.dtype:
        raise DataError(
            f"{printable(path)}: x_train is {train.pixels.dtype}, x_test {val.pixels.dtype}. "
            "Expected one of uint8 and uint16 for both. Convert one of them."
        )
    if train.pixels.shape[1:] != val.pixels.shape[1:]:
        raise DataError(
            f"{printable(path)}: x_train has images {list(train.pixels.shape[1:])}, x_test "
            f"{list(val.pixels.shape[1:])}. Expected equal shapes. Resize one of them."
        )
    where = f"{printable(path)}: y_train"
    if "classes" in arrays:
        classes = _names(arrays["classes"], path)
    else:
        classes = numbered_classes(train.labels, where, remedy="add an array `classes` of names")
    checked_labels(train.labels, classes, where)
    checked_labels(val.labels, classes, f"{printable(path)}: y_test")
    return given(
        train,
        val,
        spec=spec,
        classes=classes,
        side=min(train.pixels.shape[1:3]),
        split="given by the arrays x_train and x_test",
    )


def _names(classes: NDArray[Any], path: Path) -> tuple[str, ...]:
    if classes.dtype.kind != "U" or classes.ndim != 1:
        raise DataError(
            f"{printable(path)}: classes is {classes.dtype} {list(classes.shape)}. Expected a "
            "one-dimensional array of strings, in the order of the labels. Save it again."
        )
    try:
        names = classes.tolist()
    except (SystemError, ValueError) as error:  # numpy stores any 32 bits as a character
        raise DataError(
            f"{printable(path)}: classes has a character that is not in Unicode. Expected names. "
            "Save the array again."
        ) from error
    return checked_classes(names, f"{printable(path)}: classes")


def _load(path: Path) -> dict[str, NDArray[Any]]:
    """Reads the arrays that are needed, and checks each header before its array is made."""
    try:
        with opened(path) as file, zipfile.ZipFile(file) as archive:
            members = {
                info.filename.removesuffix(".npy"): info
                for info in archive.infolist()
                if info.filename.endswith(".npy")
            }
            room = _Room(path, os.fstat(file.fileno()).st_size)
            wanted = {name: _read(archive, members[name], room) for name in _NAMES & members.keys()}
            # Other arrays are named in messages, but never read.
            return wanted | {name: np.empty(0) for name in members.keys() - _NAMES}
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(
            f"{printable(path)}: no such file. Expected an .npz file. Check the path."
        ) from None
    except Exception as error:  # zipfile and numpy raise any kind of exception for broken bytes
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(
            f"{printable(path)}: cannot be read ({truncated(why) or type(error).__name__}). "
            "Expected an .npz file of plain arrays without Python objects. Save it again with "
            "numpy.savez_compressed."
        ) from error


class _Room:
    """Counts the bytes that the arrays of a file take, and refuses too many."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._left = min(data_room(), UNPACKED_RATIO * size + 64 * MIB)

    def take(self, name: str, count: int) -> None:
        """Raises DataError if an array of `count` bytes does not fit."""
        if count > self._left:
            raise DataError(
                f"{printable(self._path)}: {printable(name)} claims {count:,} bytes. Expected at "
                f"most {self._left:,}, by the size of the file and the memory of this machine. Do "
                "not trust this file, or save fewer images in it."
            )
        self._left -= count


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, room: _Room) -> NDArray[Any]:
    """Reads one array in pieces; zipfile verifies its CRC-32 at the end.

    Raises:
        ValueError: The header does not fit the member, or the array has Python objects.
    """
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise ValueError(f"{info.filename} has version {version} of .npy")
        shape, fortran, dtype = _HEADERS[version](file)
        if dtype.hasobject or dtype.names is not None:
            raise ValueError(f"{info.filename} has the dtype {dtype}")
        count = math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or count != info.file_size - file.tell():
            raise ValueError(f"{info.filename} has {info.file_size} bytes for {dtype} {shape}")
        room.take(info.filename, count)
        flat = np.empty(count, dtype=np.uint8)
        for start in range(0, count, _PIECE):
            piece = file.read(min(_PIECE, count - start))
            if len(piece) < min(_PIECE, count - start):
                raise ValueError(f"{info.filename} ends early")
            flat[start : start + len(piece)] = np.frombuffer(piece, np.uint8)
        if file.read(1):
            raise ValueError(f"{info.filename} is longer than its header says")
    array = flat.view(dtype)
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)


def _images(arrays: dict[str, NDArray[Any]], part: str, path: Path) -> ArrayImages:
    for name in (f"x_{part}", f"y_{part}"):
        if name not in arrays:
            raise DataError(
                f"{printable(path)}: no array {name}, only "
                f"{truncated(', '.join(sorted(arrays))) or 'none'}."
                f"{near_misses(name, arrays)} Expected x_train, y_train, x_test and y_test. "
                "Save the arrays again under these names."
            )
    pixels, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
    if pixels.ndim == 3:
        pixels = pixels[:, :, :, None]
    deep = pixels.dtype in (np.uint8, np.uint16)
    if not deep or pixels.ndim != 4 or not 0 < pixels.shape[3] <= IMAGE_CHANNELS:
        raise DataError(
            f"{printable(path)}: x_{part} is {pixels.dtype} {list(pixels.shape)}. Expected uint8 "
            f"or uint16 [N, H, W] or [N, H, W, C] with 1 to {IMAGE_CHANNELS} channels. Convert it."
        )
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != pixels.shape[:1]:
        raise DataError(
            f"{printable(path)}: y_{part} is {labels.dtype} {list(labels.shape)}. Expected "
            f"integers [{len(pixels)}], one for each image of x_{part}. Convert it."
        )
    if not pixels.size:
        raise DataError(
            f"{printable(path)}: x_{part} is empty, {list(pixels.shape)}. Expected images. "
            "Save the file again."
        )
    # The labels are checked later, because the classes may have to be derived from them.
    return ArrayImages(pixels, labels.astype(np.int64), f"{path} x_{part}")
