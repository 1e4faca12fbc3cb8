"""A base class of readers that know all names, shapes and dtypes when the file is open."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from forebear.weights.readers.base import Array, Arrays
from forebear.weights.readers.errors import reading


class Entry(Protocol):
    """The information about an array before it is read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype in which the array is returned."""


E = TypeVar("E", bound=Entry)


class Listed(Arrays, Generic[E]):
    """Arrays with a dict of entries, which the reader fills when it opens the file."""

    expected: str  # the expected contents of the file, for messages
    entries: dict[str, E]

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __getitem__(self, name: str) -> Array:
        entry = self.entries[name]
        with reading(self.path, self.expected, name):
            return self.read(name, entry)

    @abstractmethod
    def read(self, name: str, entry: E) -> Array:
        """Reads one array. May raise any exception of the library that reads it."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns the shape of an array."""
        return self.entries[name].shape

    def dtype(self, name: str) -> np.dtype[Any]:
        """Returns the dtype of an array."""
        return self.entries[name].dtype
