"""Labelled images, stored as arrays or as encoded files, behind one small interface."""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from forebear.data.groups import Groups
from forebear.data.images.bands import (
    COMMON,
    AnyImage,
    from_array,
    is_array,
    open_any_image,
    part_of,
    size_of,
)
from forebear.data.images.decode import ChooseBox, open_part
from forebear.data.images.flatten import Levels
from forebear.data.labels import Labels, is_multi
from forebear.errors import DataError
from forebear.limits import IMAGE_BYTES
from forebear.tables.preprocessing import Preprocessing
from forebear.text import printable
from forebear.untrusted import opened

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Row(Protocol[T_co]):
    """A read-only sequence whose items may be loaded lazily; a list is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> T_co: ...


class Images(Protocol):
    """N labelled images. All methods are thread-safe."""

    @property
    def labels(self) -> Labels:
        """Labels: [N] in 0..number of classes - 1, or [N, classes] of 0 and 1 if multi-label."""

    @property
    def channels(self) -> int:
        """Number of channels: 3 if images are decoded as RGB, 1 if as L; others are raw."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """Returns the name of the image in messages, as one printable line."""

    def image(self, index: int) -> AnyImage:
        """Returns the decoded image.

        Raises:
            DataError: The image cannot be read or decoded. The message names it.
        """

    def part(self, index: int, choose: ChooseBox, shape: tuple[int, int]) -> AnyImage:
        """Returns the box that `choose` selects, resized to height x width; see `open_part`.

        Raises:
            DataError: The image cannot be read or decoded. The message names it.
        """

    def source(self, index: int) -> Path | bytes | None:
        """Returns the path of the image file, or its bytes; None if the image has no file.

        Raises:
            DataError: The bytes cannot be read.
        """

    def digest(self, index: int) -> bytes:
        """Returns the sha256 of the image file, or of the pixels if the image has no file."""

    def with_levels(self, levels: Levels | None) -> Self:
        """Returns the images with other `levels` for deeper samples; see `open_image`."""

    def with_channels(self, channels: int) -> Self:
        """Returns the images with another number of channels.

        Raises:
            DataError: They are arrays with other channels.
        """

    def take(self, indices: NDArray[np.int64]) -> Self:
        """Returns the subset of images at `indices`, in that order."""


@dataclass(frozen=True, slots=True, eq=False)
class ArrayImages:
    """Images that are in memory as one array."""

    pixels: NDArray[np.uint8] | NDArray[np.uint16]  # [N, H, W, C]
    labels: Labels  # [N], or [N, classes]
    origin: str  # prefix of each image's name: "digits train"
    levels: Levels | None = None  # 16-bit samples that become 0 and 255; None: the whole range

    @property
    def channels(self) -> int:
        """Number of channels of the array."""
        return int(self.pixels.shape[3])

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """Returns the origin and the index of the image."""
        return printable(f"{self.origin} number {index}")

    def image(self, index: int) -> AnyImage:
        """Returns the pixels, of 8 bits unchanged, as a PIL image if they have 1 or 3 channels."""
        return from_array(self.pixels[index], self.channels, self.levels, self.name(index))

    def part(self, index: int, choose: ChooseBox, shape: tuple[int, int]) -> AnyImage:
        """Returns the box that `choose` selects, resized to height x width pixels."""
        whole = self.image(index)
        return part_of(whole, choose(*size_of(whole)), shape)

    def source(self, index: int) -> Path | bytes | None:
        """Returns None because there is no file."""
        return None

    def digest(self, index: int) -> bytes:
        """Returns the sha256 of the pixels."""
        return hashlib.sha256(self.pixels[index].tobytes()).digest()

    def with_levels(self, levels: Levels | None) -> ArrayImages:
        """Returns the images with other `levels`, which samples of 8 bits ignore."""
        return replace(self, levels=levels)

    def with_channels(self, channels: int) -> ArrayImages:
        """Returns the images unchanged; grey ones and colour ones can turn into each other."""
        if channels != self.channels and not {channels, self.channels} <= {*COMMON}:
            raise DataError(
                f"{printable(self.origin)}: images of {self.channels} channels. Expected "
                f"{channels}, as the network takes. Pass other images, or another network."
            )
        return self

    def take(self, indices: NDArray[np.int64]) -> ArrayImages:
        """Returns a copy of these images. Their names are numbered from 0 again."""
        return ArrayImages(self.pixels[indices], self.labels[indices], self.origin, self.levels)


@dataclass(frozen=True, slots=True, eq=False)
class EncodedImages:
    """Images as encoded files or bytes, which are decoded on access.

    They are converted to RGB or L. Files of other channels must have them.
    """

    encoded: Row[str | bytes]  # paths (a str takes half the memory of a Path), or encoded bytes
    names: Row[str]
    labels: Labels  # [N], or [N, classes]
    levels: Levels | None = None  # of deeper samples; see `open_any_image`
    channels: int = 3

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """Returns the path, or the file and the row."""
        return printable(self.names[index])

    def image(self, index: int) -> AnyImage:
        """Reads and decodes the file on every call."""
        return open_any_image(
            self.source(index),
            name=self.names[index],
            channels=self.channels,
            levels=self.levels,
        )

    def part(self, index: int, choose: ChooseBox, shape: tuple[int, int]) -> AnyImage:
        """Reads the file on every call, and decodes only as much of it as the part needs."""
        source = self.source(index)
        if self.channels not in COMMON or is_array(source):
            whole = self.image(index)
            return part_of(whole, choose(*size_of(whole)), shape)
        return open_part(source, choose, shape, name=self.names[index], levels=self.levels)

    def digest(self, index: int) -> bytes:
        """Returns the sha256 of the file, which is read in pieces."""
        source = self.source(index)
        if isinstance(source, bytes):
            return hashlib.sha256(source).digest()
        try:
            with opened(source, most=IMAGE_BYTES) as file:
                return hashlib.file_digest(file, "sha256").digest()  # type: ignore[arg-type]
        except OSError as error:
            raise DataError(
                f"{self.name(index)}: cannot be read ({error.strerror}). Expected a readable "
                "image file. Check its permissions, or remove it."
            ) from error

    def with_levels(self, levels: Levels | None) -> EncodedImages:
        """Returns the images with other `levels`."""
        return replace(self, levels=levels)

    def with_channels(self, channels: int) -> EncodedImages:
        """Returns images with other channels, which each file must have; see `open_any_image`."""
        return replace(self, channels=channels)

    def take(self, indices: NDArray[np.int64]) -> EncodedImages:
        """Returns the subset of images at `indices` without reading any file."""
        encoded, names = _chosen(self.encoded, indices), _chosen(self.names, indices)
        return replace(self, encoded=encoded, names=names, labels=self.labels[indices])

    def source(self, index: int) -> Path | bytes:
        """Returns the path of the file, or its bytes, which are read on every call."""
        encoded = self.encoded[index]
        return Path(encoded) if isinstance(encoded, str) else encoded


@dataclass(frozen=True, slots=True, eq=False)
class _Chosen(Generic[T]):
    """A lazy subset of a row: items are fetched on access."""

    row: Row[T]
    indices: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int, /) -> T:
        return self.row[int(self.indices[index])]


def _chosen(row: Row[T], indices: NDArray[np.int64]) -> Row[T]:
    if isinstance(row, list):  # already in memory
        return [row[i] for i in indices]
    return _Chosen(row, indices)


def joined(parts: Sequence[Images]) -> Images:
    """Returns the images of several sets of one kind as one set, in their order."""
    labels = np.concatenate([part.labels for part in parts])
    arrays = [part for part in parts if isinstance(part, ArrayImages)]
    if len(arrays) == len(parts):
        pixels = np.concatenate([part.pixels for part in arrays])
        return ArrayImages(pixels, labels, arrays[0].origin)
    encoded = [part for part in parts if isinstance(part, EncodedImages)]
    rows, names = [part.encoded for part in encoded], [part.names for part in encoded]
    channels = parts[0].channels
    return EncodedImages(_Joined(rows), _Joined(names), labels, channels=channels)


@dataclass(frozen=True, slots=True, eq=False)
class _Joined(Generic[T]):
    """Several rows as one."""

    rows: list[Row[T]]

    def __len__(self) -> int:
        return sum(map(len, self.rows))

    def __getitem__(self, index: int, /) -> T:
        for row in self.rows:
            if index < len(row):
                return row[index]
            index -= len(row)
        raise IndexError(index)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """A data set, split into training and validation images."""

    spec: str  # as given to read_data
    classes: tuple[str, ...]  # in the order of the labels
    train: Images
    val: Images
    side: int  # pixels: default input size for training
    mirror: bool  # whether a horizontal flip keeps the class
    split: str  # describes how train and val were separated
    fingerprint: str  # sha256, see forebear.data.sources.split.fingerprint
    order: str = ""  # sha256 of the images in their order
    # Whether `val` was split off from the training images, so that weights may be chosen by it. A
    # validation set that came with the data is often a benchmark's test set.
    splits_off: bool = False
    whole: Images | None = None  # all images before `val` was split off; None if it came with them
    test: Images | None = None  # a test part, which training never uses
    origins: Mapping[Any, str] = field(default_factory=dict)  # where each part is: "val": "valid/"
    skipped: Mapping[str, int] = field(default_factory=dict)  # files that are no images, by reason
    notes: tuple[str, ...] = ()  # what the user should know about the layout
    groups: Mapping[Any, Groups] = field(default_factory=dict)  # of each part, with --group-by

    @property
    def channels(self) -> int:
        """Number of channels: 1 for greyscale images, 3 for RGB, or any other."""
        return self.train.channels

    @property
    def multi_label(self) -> bool:
        """Whether an image can have several labels, or none."""
        return is_multi(self.train.labels)


def for_rule(images: Images, rule: Preprocessing) -> Images:
    """Returns the images as a preprocessing takes them: its levels, and its channels.

    Raises:
        DataError: They are arrays with other channels.
    """
    images = images.with_levels(rule.levels)
    return images if rule.channels == images.channels else images.with_channels(rule.channels)


def with_channels(data: Dataset, channels: int | None) -> Dataset:
    """Returns a data set whose files are decoded to a number of channels; None leaves it.

    Raises:
        DataError: The images are arrays with other channels.
    """
    if channels is None:
        return data
    parts = {name: getattr(data, name) for name in ("train", "val", "whole", "test")}
    return replace(
        data, **{name: part and part.with_channels(channels) for name, part in parts.items()}
    )


def typical_side(images: Images, ratio: float = 1.0) -> int:
    """Returns the median height of the largest crops of nine images, in pixels.

    For square crops, it is the median of the shorter sides.

    Images that cannot be decoded are left out here; training refuses or skips them.

    Args:
        images: The images.
        ratio: Width of the crops over their height.

    Raises:
        DataError: None of the nine can be decoded. The message names the first one.
    """
    sides, failed = [], []
    for place in np.unique(np.linspace(0, len(images) - 1, 9).astype(int)):
        try:
            width, height = size_of(images.image(int(place)))
            sides.append(min(height, width / ratio))
        except DataError as error:
            failed.append(error)
    if not sides:
        raise failed[0]
    return int(statistics.median(sides))
