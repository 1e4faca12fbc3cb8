"""Reads numpy's .npz. Each header is compared with its member's size before an array is made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from zipfile import ZipFile, ZipInfo

import numpy as np

from forebear.text import truncated
from forebear.weights.readers.base import Array
from forebear.weights.readers.errors import check_names, reading, refused
from forebear.weights.readers.indexed import Listed
from forebear.weights.readers.zip_archive import open_archive

_EXPECTED = "an .npz file of plain arrays, without Python objects"
_REMEDY = "Save it again with numpy.savez."


@dataclass(frozen=True, slots=True)
class _Member:
    info: ZipInfo
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class NpzArrays(Listed[_Member]):
    """The arrays of one .npz file."""

    format = "NumPy archive"
    expected = _EXPECTED

    def __init__(self, path: Path) -> None:
        """Reads the headers.

        Raises:
            WeightsError: The file is not an archive of plain arrays, or it is a zip bomb.
        """
        self.path = path
        self._archive = open_archive(path)
        try:
            infos = self._archive.infolist()
            check_names(path, (info.filename.removesuffix(".npy") for info in infos))
            self.entries = {
                info.filename.removesuffix(".npy"): _member(path, self._archive, info)
                for info in infos
            }
        except BaseException:
            self.close()
            raise

    def read(self, name: str, entry: _Member) -> Array:
        """Reads an array. zipfile verifies its CRC-32."""
        with self._archive.open(entry.info) as file:
            array: Array = np.lib.format.read_array(file, allow_pickle=False)
        return array

    def close(self) -> None:
        """Closes the archive."""
        self._archive.close()


def _member(path: Path, archive: ZipFile, info: ZipInfo) -> _Member:
    name = info.filename.removesuffix(".npy")
    if name == info.filename:
        raise refused(path, f"{truncated(name)}: this is not an .npy member", _EXPECTED, _REMEDY)
    with reading(path, _EXPECTED, name), archive.open(info) as file:
        shape, dtype = _header(file)
        header = file.tell()
    if dtype.hasobject or dtype.names is not None or dtype.subdtype is not None:
        raise refused(
            path, f"{truncated(name)}: its dtype is {truncated(dtype)}", _EXPECTED, _REMEDY
        )
    size = header + math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or size != info.file_size:
        raise refused(
            path,
            f"{truncated(name)}: {dtype} {truncated(list(shape))} has {info.file_size} bytes",
            f"{truncated(size)} bytes for this shape",
        )
    return _Member(info, shape, dtype)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    else:  # 3.0 is only for structured dtypes with field names outside latin-1
        raise ValueError(f"version {version} of .npy is not supported")
    return shape, dtype
