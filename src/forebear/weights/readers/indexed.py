"""Readers that know every name, shape and type once the file is open."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from forebear.weights.readers.base import Array, Arrays
from forebear.weights.readers.errors import reading


class Entry(Protocol):
    """What is known of an array before it is read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type in which it is given."""


E = TypeVar("E", bound=Entry)


class Listed(Arrays, Generic[E]):
    """Arrays by a list of entries, which the reader makes when it opens the file."""

    expected: str  # for messages: what the file was taken for
    entries: dict[str, E]

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __getitem__(self, name: str) -> Array:
        entry = self.entries[name]
        with reading(self.path, self.expected, name):
            return self.read(name, entry)

    @abstractmethod
    def read(self, name: str, entry: E) -> Array:
        """Reads one array; may raise whatever the library that reads it raises."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Known since the file was opened."""
        return self.entries[name].shape

    def dtype(self, name: str) -> np.dtype[Any]:
        """Known since the file was opened."""
        return self.entries[name].dtype
