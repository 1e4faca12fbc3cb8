"""Labelled pictures, kept as arrays or as encoded files, behind one small interface."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from forebear.data.images.decode import ChooseBox, open_part, open_picture, resized
from forebear.errors import DataError
from forebear.text import printable

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Row(Protocol[T_co]):
    """What a list can do, for members that may be fetched only when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> T_co: ...


class Images(Protocol):
    """N pictures with their classes; reading one is safe from several threads at once."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """[N], each in 0..number of classes - 1."""

    @property
    def channels(self) -> int:
        """3: pictures come as RGB; 1: as L."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """What messages call the picture: one printable line."""

    def picture(self, index: int) -> Image.Image:
        """The decoded picture. Raises DataError, naming it."""

    def part(self, index: int, choose: ChooseBox, size: int) -> Image.Image:
        """The part that `choose` says, size x size pixels; as `open_part`. Raises DataError."""

    def content(self, index: int) -> bytes | None:
        """The bytes of the picture's file, None where there is no file. Raises DataError."""

    def digest(self, index: int) -> bytes:
        """sha256 of the picture's file, or of its pixels where there is no file."""

    def take(self, indices: NDArray[np.int64]) -> Self:
        """These pictures alone, in this order."""


@dataclass(frozen=True, slots=True, eq=False)
class ArrayImages:
    """Pictures that are in memory already."""

    pixels: NDArray[np.uint8]  # [N, H, W, C], C 1 or 3
    labels: NDArray[np.int64]  # [N]
    origin: str  # begins each name: "digits train"

    @property
    def channels(self) -> int:
        """1 or 3, as the array has."""
        return int(self.pixels.shape[3])

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """The origin and the number."""
        return printable(f"{self.origin} number {index}")

    def picture(self, index: int) -> Image.Image:
        """The pixels as they are."""
        pixels = self.pixels[index]
        return Image.fromarray(pixels[:, :, 0] if self.channels == 1 else pixels)

    def part(self, index: int, choose: ChooseBox, size: int) -> Image.Image:
        """The part of the picture that `choose` says, brought to size x size pixels."""
        whole = self.picture(index)
        return resized(whole, whole.size, choose(*whole.size), size)

    def content(self, index: int) -> bytes | None:
        """None: there is no file."""
        return None

    def digest(self, index: int) -> bytes:
        """sha256 of the pixels."""
        return hashlib.sha256(self.pixels[index].tobytes()).digest()

    def take(self, indices: NDArray[np.int64]) -> ArrayImages:
        """A copy of these pictures; they are counted anew in their names."""
        return ArrayImages(self.pixels[indices], self.labels[indices], self.origin)


@dataclass(frozen=True, slots=True, eq=False)
class EncodedPictures:
    """Pictures as files, or as the bytes that a file would hold; decoded when asked for, as RGB."""

    encoded: Row[str | bytes]  # paths (half the size of Path objects), or the bytes
    names: Row[str]
    labels: NDArray[np.int64]  # [N]

    @property
    def channels(self) -> int:
        """3: grey files come as RGB too."""
        return 3

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """The path, or the file and its row."""
        return printable(self.names[index])

    def picture(self, index: int) -> Image.Image:
        """Reads and decodes the file anew at each call."""
        return open_picture(self._source(index), name=self.names[index])

    def part(self, index: int, choose: ChooseBox, size: int) -> Image.Image:
        """Reads the file anew at each call, and decodes no more of it than is needed."""
        return open_part(self._source(index), choose, size, name=self.names[index])

    def content(self, index: int) -> bytes:
        """The file's bytes, read anew at each call."""
        source = self._source(index)
        if isinstance(source, bytes):
            return source
        try:
            return source.read_bytes()
        except OSError as error:
            raise DataError(
                f"{self.name(index)}: cannot be read ({error.strerror}). Expected a readable "
                "picture. Check its permissions, or remove it."
            ) from error

    def digest(self, index: int) -> bytes:
        """sha256 of the file's bytes."""
        return hashlib.sha256(self.content(index)).digest()

    def take(self, indices: NDArray[np.int64]) -> EncodedPictures:
        """These pictures, without reading any."""
        return EncodedPictures(
            _chosen(self.encoded, indices), _chosen(self.names, indices), self.labels[indices]
        )

    def _source(self, index: int) -> Path | bytes:
        encoded = self.encoded[index]
        return Path(encoded) if isinstance(encoded, str) else encoded


@dataclass(frozen=True, slots=True, eq=False)
class _Chosen(Generic[T]):
    """Some members of a row, each fetched when it is asked for."""

    row: Row[T]
    indices: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int, /) -> T:
        return self.row[int(self.indices[index])]


def _chosen(row: Row[T], indices: NDArray[np.int64]) -> Row[T]:
    if isinstance(row, list):  # in memory already
        return [row[i] for i in indices]
    return _Chosen(row, indices)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """A data set with its training and validation pictures."""

    spec: str  # as given to read_data
    classes: tuple[str, ...]  # in the order of the labels
    train: Images
    val: Images
    side: int  # pixels: the side to train at unless told otherwise
    mirror: bool  # whether a left-right flip shows the same class
    split: str  # a sentence: how train and val were separated
    fingerprint: str  # sha256, see forebear.data.sources.split.fingerprint

    @property
    def channels(self) -> int:
        """1 for grey pictures, 3 for RGB."""
        return self.train.channels
