"""Labelled pictures, kept as arrays or as encoded files, behind one small interface."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from forebear.data.decode import open_picture, printable
from forebear.errors import DataError


class Pictures(Protocol):
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

    def picture(self, index: int, *, at_least: int | None = None) -> Image.Image:
        """The decoded picture; `at_least` is `open_picture`'s. Raises DataError, naming it."""

    def digest(self, index: int) -> bytes:
        """sha256 of the picture's file, or of its pixels where there is no file."""

    def take(self, indices: NDArray[np.int64]) -> Self:
        """These pictures alone, in this order."""


@dataclass(frozen=True, slots=True, eq=False)
class ArrayPictures:
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

    def picture(self, index: int, *, at_least: int | None = None) -> Image.Image:
        """The pixels as they are, whatever `at_least` says."""
        pixels = self.pixels[index]
        return Image.fromarray(pixels[:, :, 0] if self.channels == 1 else pixels)

    def digest(self, index: int) -> bytes:
        """sha256 of the pixels."""
        return hashlib.sha256(self.pixels[index].tobytes()).digest()

    def take(self, indices: NDArray[np.int64]) -> ArrayPictures:
        """A copy of these pictures; they are counted anew in their names."""
        return ArrayPictures(self.pixels[indices], self.labels[indices], self.origin)


@dataclass(frozen=True, slots=True, eq=False)
class EncodedPictures:
    """Pictures as files, or as the bytes that a file would hold; decoded when asked for, as RGB."""

    encoded: Sequence[str | bytes]  # paths (half the size of Path objects), or the bytes
    names: Sequence[str]
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

    def picture(self, index: int, *, at_least: int | None = None) -> Image.Image:
        """Reads and decodes the file anew at each call."""
        encoded = self.encoded[index]
        source = Path(encoded) if isinstance(encoded, str) else encoded
        return open_picture(source, name=self.names[index], at_least=at_least)

    def digest(self, index: int) -> bytes:
        """sha256 of the file's bytes."""
        encoded = self.encoded[index]
        if isinstance(encoded, bytes):
            return hashlib.sha256(encoded).digest()
        try:
            with Path(encoded).open("rb") as file:
                return hashlib.file_digest(file, "sha256").digest()
        except OSError as error:
            raise DataError(
                f"{self.name(index)}: cannot be read ({error.strerror}). Expected a readable "
                "picture. Check its permissions, or remove it."
            ) from error

    def take(self, indices: NDArray[np.int64]) -> EncodedPictures:
        """These pictures, without reading any."""
        return EncodedPictures(
            [self.encoded[i] for i in indices],
            [self.names[i] for i in indices],
            self.labels[indices],
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Data:
    """A data set with its training and validation pictures."""

    spec: str  # as given to read_data
    classes: tuple[str, ...]  # in the order of the labels
    train: Pictures
    val: Pictures
    side: int  # pixels: the side to train at unless told otherwise
    mirror: bool  # whether a left-right flip shows the same class
    split: str  # a sentence: how train and val were separated
    fingerprint: str  # sha256, see forebear.data.split.fingerprint

    @property
    def channels(self) -> int:
        """1 for grey pictures, 3 for RGB."""
        return self.train.channels
