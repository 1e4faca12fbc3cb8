"""Reads the values of tensors from torch's two file formats. Only numpy interprets them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import IO, Any, Literal, Protocol
from zipfile import ZIP_STORED

import numpy as np

from forebear.limits import PICKLE_BYTES
from forebear.text import truncated
from forebear.weights.readers.base import Array
from forebear.weights.readers.errors import refused
from forebear.weights.readers.torch.pickle_values import Strided
from forebear.weights.readers.zip_archive import open_archive

# By torch's type, as in the names of storages and of dtypes. BFloat16 is widened after reading.
TYPES: dict[str, np.dtype[Any]] = {
    "Double": np.dtype(np.float64),
    "Float": np.dtype(np.float32),
    "Half": np.dtype(np.float16),
    "BFloat16": np.dtype(np.uint16),
    "Long": np.dtype(np.int64),
    "Int": np.dtype(np.int32),
    "Short": np.dtype(np.int16),
    "Char": np.dtype(np.int8),
    "Byte": np.dtype(np.uint8),
    "Bool": np.dtype(np.bool_),
    "uint16": np.dtype(np.uint16),
    "uint32": np.dtype(np.uint32),
    "uint64": np.dtype(np.uint64),
}


Order = Literal["<", ">"]  # little-endian, big-endian


class Storages(Protocol):
    """The storages of one open file."""

    order: Order  # of the bytes

    def size(self, key: str) -> int:
        """Returns the number of bytes of a storage. Raises KeyError if there is none."""

    def read(self, key: str, start: int, count: int) -> bytes:
        """Returns `count` bytes of a storage from the byte `start` on."""

    def close(self) -> None:
        """Closes the file."""


class ZipStorages:
    """The storages of a zip archive, which torch.save has written since torch 1.6."""

    def __init__(self, path: Path, expected: str) -> None:
        """Opens the archive, and checks its structure and the CRC-32 of every member.

        torch verifies no CRC-32.

        Raises:
            WeightsError: The archive is damaged, or torch.save did not write it.
        """
        self._archive = open_archive(path)
        try:
            names = self._archive.namelist()
            self._folder = names[0].partition("/")[0]
            self._check(path, names, expected)
            self.order: Order = ">" if self._text("byteorder") == b"big" else "<"
            self.pickled = self._archive.read(f"{self._folder}/data.pkl")
        except BaseException:
            self.close()
            raise

    def _check(self, path: Path, names: list[str], expected: str) -> None:
        if f"{self._folder}/constants.pkl" in names:
            raise refused(
                path,
                "it is a TorchScript archive, which is a program",
                expected,
                "Save state_dict().",
            )
        if len({name.lower() for name in names}) < len(names):
            raise refused(path, "it has members whose names differ only in case", expected)
        pickled = self._archive.getinfo(f"{self._folder}/data.pkl")
        if pickled.file_size > PICKLE_BYTES:
            raise refused(
                path,
                f"{truncated(pickled.filename)}: it has {pickled.file_size} bytes",
                f"at most {PICKLE_BYTES} bytes",
            )
        for member in self._archive.infolist():
            if member.compress_type != ZIP_STORED or member.file_size != member.compress_size:
                what = f"{truncated(member.filename)}: it is compressed"
                raise refused(path, what, "uncompressed members")
            if not member.CRC:  # set_crc32_options(False) was used: there is none to verify
                member.CRC = None  # type: ignore[assignment]
            with self._archive.open(member) as file:
                while file.read(2**20):  # zipfile verifies the CRC-32 at the end
                    pass

    def _text(self, name: str) -> bytes:
        member = f"{self._folder}/{name}"
        return self._archive.read(member)[:16] if member in self._archive.NameToInfo else b""

    def size(self, key: str) -> int:
        """Returns the number of bytes of a storage."""
        return self._archive.getinfo(f"{self._folder}/data/{key}").file_size

    def read(self, key: str, start: int, count: int) -> bytes:
        """Returns a part of a storage."""
        with self._archive.open(f"{self._folder}/data/{key}") as file:
            file.seek(start)
            return file.read(count)

    def close(self) -> None:
        """Closes the archive."""
        self._archive.close()


class LegacyStorages:
    """The storages behind the pickles of a file that torch.save wrote before torch 1.6."""

    def __init__(self, path: Path, start: int, keys: list[tuple[str, int]], order: Order) -> None:
        """Finds the storages.

        Args:
            path: The file.
            start: Offset of the first storage.
            keys: Key, and bytes of one value, of each storage in the order of the file.
            order: Order of the bytes.

        Raises:
            ValueError: The file ends before the last storage does.
        """
        self.order = order
        self._file: IO[bytes] = path.open("rb")
        self._places: dict[str, tuple[int, int]] = {}
        end = path.stat().st_size
        for key, width in keys:
            self._file.seek(start)
            count = int.from_bytes(self._file.read(8), "little" if order == "<" else "big")
            self._places[key] = (start + 8, count * width)
            start += 8 + count * width
            if start > end:
                self.close()
                raise ValueError("the file ends before its storages do")

    def size(self, key: str) -> int:
        """Returns the number of bytes of a storage."""
        return self._places[key][1]

    def read(self, key: str, start: int, count: int) -> bytes:
        """Returns a part of a storage."""
        self._file.seek(self._places[key][0] + start)
        return self._file.read(count)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def check_storage(storages: Storages, tensor: Strided) -> None:
    """Checks that a tensor lies within its storage.

    Raises:
        ValueError: It does not, or the storage is missing.
    """
    try:
        size = storages.size(tensor.storage.key)
    except KeyError:
        raise ValueError("its storage is missing") from None
    width = TYPES[tensor.kind].itemsize
    start, stop = tensor.offset * width, (tensor.offset + _extent(tensor)) * width
    if start > size or stop > size:
        raise ValueError(f"its storage has {size} bytes, but it reaches to {stop}")


def read_tensor(storages: Storages, tensor: Strided) -> Array:
    """Returns a copy of a tensor, in C order and in the byte order of this machine."""
    kind = TYPES[tensor.kind]
    if not math.prod(tensor.shape):
        values: Array = np.zeros(tensor.shape, kind)
    else:
        width = kind.itemsize
        count = _extent(tensor) * width
        data = storages.read(tensor.storage.key, tensor.offset * width, count)
        flat = np.frombuffer(data, kind.newbyteorder(storages.order))
        steps = tuple(width * step for step in tensor.strides)
        view = np.lib.stride_tricks.as_strided(flat, tensor.shape, steps, writeable=False)
        values = np.array(view, kind, order="C")
    if tensor.kind == "BFloat16":  # numpy has no bfloat16, which is exact in float32
        wide: Array = (values.astype(np.uint32) << 16).view(np.float32)
        return wide
    return values


def _extent(tensor: Strided) -> int:
    """Returns the number of values from the first to the last one, including those between."""
    if 0 in tensor.shape:
        return 0
    return 1 + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.strides, strict=True))


def type_given(kind: str) -> np.dtype[Any]:
    """Returns the dtype in which tensors of a type are returned."""
    return np.dtype(np.float32) if kind == "BFloat16" else TYPES[kind]
