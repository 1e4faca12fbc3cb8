"""The interface of all readers: names, and arrays that are read one at a time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Arrays(Mapping[str, Array]):
    """{name: array} of one file. An array is read when it is accessed, and not cached.

    numpy has no bfloat16, so bfloat16 arrays are returned as float32 with the same values. Use the
    object as a context manager, or call `close`, to close the file.
    """

    path: Path  # as passed by the caller
    format: str  # a description of the format: "TensorFlow checkpoint V2"
    unbuilt: tuple[str, ...] = ()  # classes of objects in the file that were left unbuilt
    notes: tuple[str, ...] = ()  # what the reader left out, for the notes of the network
    model_config: str | bytes | None = None  # the JSON of a Keras model's layers, if there is one

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @abstractmethod
    def __iter__(self) -> Iterator[str]:
        """Iterates over the names, in the file's order."""

    @abstractmethod
    def __getitem__(self, name: str) -> Array:
        """Reads one array.

        Raises:
            KeyError: The name is unknown.
            WeightsError: The array is damaged. The message names the file and the array.
        """

    @abstractmethod
    def shape(self, name: str) -> tuple[int, ...]:
        """Returns the shape of an array, without reading it."""

    @abstractmethod
    def dtype(self, name: str) -> np.dtype[Any]:
        """Returns the dtype in which an array is returned, without reading it."""

    @property
    def whole(self) -> Arrays:
        """All arrays of the file, if these are only those of one network in it."""
        return self

    def scope(self, name: str) -> str:
        """Returns the part of a name that is names of dicts, with dots: "state_dict."."""
        return ""

    @abstractmethod
    def close(self) -> None:
        """Closes the file. Arrays that were returned before remain valid."""
