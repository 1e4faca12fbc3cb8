"""The images inside tar shards: where each one is, its name and its bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from forebear.errors import DataError
from forebear.text import printable


@dataclass(frozen=True, slots=True, eq=False)
class ShardPlaces:
    """The locations of all images, as arrays because there may be millions."""

    files: list[Path]
    shards: NDArray[np.int64]  # [N], into files
    offsets: NDArray[np.int64]  # [N], bytes
    sizes: NDArray[np.int64]  # [N], bytes


@dataclass(frozen=True, slots=True, eq=False)
class ShardNames:
    """The names of the images: shard and file name."""

    shards: list[str]
    keys: list[str]
    places: ShardPlaces

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int, /) -> str:
        return f"{self.shards[self.places.shards[index]]}: {self.keys[index]}"


@dataclass(frozen=True, slots=True, eq=False)
class ShardMembers:
    """The bytes of the images, each read from its shard on access."""

    places: ShardPlaces
    names: ShardNames

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int, /) -> bytes:
        places, size = self.places, int(self.places.sizes[index])
        try:
            with places.files[int(places.shards[index])].open("rb") as file:
                file.seek(int(places.offsets[index]))
                content: bytes = file.read(size)
        except OSError as error:
            raise DataError(
                f"{printable(self.names[index])}: cannot be read ({error.strerror}). Expected the "
                "shard to be unchanged since the start. Restore it and restart."
            ) from error
        if len(content) != size:
            raise DataError(
                f"{printable(self.names[index])}: the shard ends within this file. Expected the "
                "shard to be unchanged since the start. Restore it and restart."
            )
        return content
