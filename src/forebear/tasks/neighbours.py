"""Finds the images of a data set that are nearest to given images by a network's features."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from forebear.data.dataset import Dataset, Images, for_rule
from forebear.data.decoding_threads import DecodingThreads
from forebear.data.images.large import GATE
from forebear.data.images.preprocess import fit, preprocess, to_image
from forebear.data.labels import names
from forebear.errors import DataError, WeightsError
from forebear.hardware import processor
from forebear.network.network import Network
from forebear.tasks.features import Extractor, features
from forebear.text import printable, truncated

Rows = NDArray[np.float32]  # [N, D]


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An image of the data set, and how near it is."""

    index: int
    name: str  # such as its path
    class_name: str
    similarity: float  # cosine of the angle between the features, -1 to 1


class Neighbours:
    """The training images of a data set, among which the nearest are looked for.

    Only the features of one batch are in memory, so the data set may be of any size.
    """

    def __init__(self, network: Network, data: Dataset) -> None:
        """Reads no image.

        Args:
            network: In evaluation mode. Its features before the logits are compared, which are
                the pool's in all networks but AlexNet.
            data: Its training images are searched.
        """
        self.extractor, self.classes = Extractor(network), data.classes
        self.images: Images = for_rule(data.train, network.preprocessing)
        self.heading = (
            f"nearest of the {len(self):,} training images of {printable(data.spec)}, by cosine "
            f"similarity at {self.extractor.end_point}"
        )

    def __len__(self) -> int:
        return len(self.images)

    def rows(self, images: Iterable[Path]) -> tuple[list[Path], Rows]:
        """Returns the images that can be read, and their features [N, D].

        Raises:
            WeightsError: The features of an image are not finite.
        """
        paths = list(images)
        found = [some.values for some in features(self.extractor, paths)]
        values = np.concatenate(found) if found else np.empty((0, *self.extractor.shape), "f4")
        read = np.isfinite(values).all(axis=1).reshape(-1)  # the rows of the others are NaN
        return [path for path, one in zip(paths, read, strict=True) if one], values[read]

    def nearest(
        self,
        rows: Rows,
        count: int,
        *,
        batch: int = 32,
        advance: Callable[[int], None] = lambda _: None,
        say: Callable[[str], None] = lambda _: None,
    ) -> list[list[Neighbour]]:
        """Returns the nearest images of each row, the nearest first.

        Args:
            rows: Features [N, D] of the images whose neighbours are wanted.
            count: Neighbours per row; fewer if the data set has fewer images.
            batch: Images at a time.
            advance: Called with the number of images that were compared.
            say: Called with the error of each image that cannot be read; it is left out.

        Raises:
            WeightsError: The features of an image are not finite.
        """
        nearest = _Nearest(rows, count)
        with DecodingThreads(processor().cores, low=False) as threads:
            for start in range(0, len(self), batch):
                numbers = range(start, min(start + batch, len(self)))
                read: dict[int, Rows] = {}
                for number, found in zip(numbers, threads.map(self._input, numbers), strict=True):
                    if isinstance(found, DataError):
                        say(str(found))
                    else:
                        read[number] = found
                if read:
                    values = self.extractor(list(read.values()))
                    self._check(values, list(read))
                    nearest.add(values, list(read))
                advance(len(numbers))
        return [
            [self._neighbour(int(n), float(value)) for n, value in zip(*pair, strict=True)]
            for pair in zip(nearest.places, nearest.values, strict=True)
        ]

    def pixels(self, index: int) -> NDArray[np.uint8]:
        """Returns an image as the network sees it, [h, w, C].

        Raises:
            DataError: The image cannot be read.
        """
        rule = self.extractor.network.preprocessing
        values = fit(to_image(self.images.image(index), rule.channels), rule)
        return np.clip(np.rint(values), 0, 255).astype(np.uint8)

    def _input(self, index: int) -> Rows | DataError:
        rule = self.extractor.network.preprocessing
        try:
            with GATE.scope():
                return preprocess(to_image(self.images.image(index), rule.channels), rule)
        except DataError as error:
            return error

    def _check(self, values: Rows, numbers: list[int]) -> None:
        wrong = ~np.isfinite(values).all(1)
        if wrong.any():
            name = self.images.name(numbers[int(wrong.argmax())])
            raise WeightsError(
                f"{truncated(name)}: its features at {self.extractor.end_point} are not finite. "
                "Expected finite features. Pass other weights, or other images."
            )

    def _neighbour(self, index: int, similarity: float) -> Neighbour:
        label = names(self.images.labels[index], self.classes, ", ")
        return Neighbour(index, self.images.name(index), label, similarity)


class _Nearest:
    """The largest similarities of each row so far, and the numbers of their images."""

    def __init__(self, rows: Rows, count: int) -> None:
        self._rows, self._count = _unit(rows), count
        self.values = np.empty((len(rows), 0), np.float32)
        self.places = np.empty((len(rows), 0), np.int64)

    def add(self, rows: Rows, numbers: list[int]) -> None:
        """Compares more images; of equal similarities the earlier image comes first."""
        cosines = np.clip(self._rows @ _unit(rows).T, -1, 1)
        values = np.concatenate([self.values, cosines], axis=1)
        shape = (len(self._rows), len(numbers))
        places = np.concatenate([self.places, np.broadcast_to(numbers, shape)], axis=1)
        order = np.argsort(-values, axis=1, kind="stable")[:, : self._count]
        self.values = np.take_along_axis(values, order, 1)
        self.places = np.take_along_axis(places, order, 1)


def _unit(rows: Rows) -> Rows:
    """Returns rows of length 1; a row of zeros stays one, so its similarity to all is 0."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Rows = rows / np.maximum(lengths, np.finfo(np.float32).tiny)
    return unit
