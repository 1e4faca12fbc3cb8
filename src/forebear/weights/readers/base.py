"""What every reader gives: names, and arrays that are read one at a time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Arrays(Mapping[str, Array]):
    """{name: array} of one file. An array is read when it is asked for and not kept.

    bfloat16, which numpy lacks, comes as float32 of the same values. Use it as a context, or close
    it, to let go of the file.
    """

    path: Path  # as the caller gave it
    format: str  # what the file is, in words: "TensorFlow checkpoint V2"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @abstractmethod
    def __iter__(self) -> Iterator[str]:
        """Names, in the file's order."""

    @abstractmethod
    def __getitem__(self, name: str) -> Array:
        """Reads one array.

        Raises:
            KeyError: no such name.
            WeightsError: its bytes are damaged; the message names file and array.
        """

    @abstractmethod
    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of an array, without reading it."""

    @abstractmethod
    def dtype(self, name: str) -> np.dtype[Any]:
        """The type in which an array is given, without reading it."""

    @abstractmethod
    def close(self) -> None:
        """Lets go of the file; arrays given before stay as they are."""
