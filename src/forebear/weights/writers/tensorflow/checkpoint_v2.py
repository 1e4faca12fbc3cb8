"""Writes TensorFlow V2 checkpoints without TensorFlow. TensorFlow can read them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from forebear.files import write_whole
from forebear.text import truncated
from forebear.weights.readers.base import Array
from forebear.weights.readers.errors import MAX_NAME, refused
from forebear.weights.readers.tensorflow.checkpoint_v2 import Place, data_file, read_checked
from forebear.weights.readers.tensorflow.corruption import DamageError
from forebear.weights.readers.tensorflow.crc32c import crc32c, masked
from forebear.weights.readers.tensorflow.sstable import Table
from forebear.weights.readers.tensorflow.tensor_records import BFLOAT16, KINDS, name_of
from forebear.weights.writers.tensorflow.protobuf import fixed32, message, number
from forebear.weights.writers.tensorflow.sstable import write_table

_KINDS = {kind.stored: number for number, kind in KINDS.items() if kind is not BFLOAT16}
_HEADER = number(1, 1) + message(3, number(1, 1))  # one data file; format version 1


@dataclass(frozen=True, slots=True)
class _Written:
    """An array in the data file."""

    kind: int
    shape: tuple[int, ...]
    place: Place

    def entry(self) -> bytes:
        """Returns the BundleEntryProto of the array."""
        return b"".join(
            (
                number(1, self.kind),
                message(2, *(message(2, number(1, size)) for size in self.shape)),
                number(4, self.place.offset),
                number(5, self.place.size),
                fixed32(6, self.place.checksum),
            )
        )


def write_tensorflow(
    path: Path, arrays: Iterable[tuple[str, Array]], *, replace: bool = False
) -> None:
    """Writes a V2 checkpoint: `path`.index and `path`.data-00000-of-00001.

    Both files are written under temporary names, read back, verified, and then renamed, the data
    file first. If the machine stops between the two renames, an old index does not match the new
    data. Every reader detects this by the checksums.

    Args:
        path: The prefix, in TensorFlow's terms.
        arrays: Names and arrays, in any order. Only one array is in memory at a time.
        replace: Whether to replace an existing checkpoint.

    Raises:
        WeightsError: The files exist or cannot be written, or the format does not support one of
            the arrays. No new files are left behind, and existing files are unchanged.
    """
    index, data = Path(f"{path}.index"), data_file(path, 0, 1)
    for target in (index, data):
        if os.path.lexists(target) and not (replace and target.is_file()):
            remedy = "Pass another path, or replace=True."
            raise refused(target, "this path already exists", "a new path", remedy)
    new = not data.exists()

    def write(partial_index: Path) -> None:
        write_whole(data, lambda partial: _write(path, partial_index, partial, arrays))

    try:
        write_whole(index, write)
    except BaseException as error:
        if new and not index.exists():
            data.unlink(missing_ok=True)
        if isinstance(error, OSError):
            what = f"cannot be written ({error.strerror or error})"
            expected = "a writable folder with free space"
            raise refused(path, what, expected, "Free some space, or pass another path.") from error
        raise


def _write(path: Path, index: Path, data: Path, arrays: Iterable[tuple[str, Array]]) -> None:
    """Writes both files under their temporary names, and verifies their contents."""
    written: dict[bytes, _Written] = {}
    with data.open("wb") as file:
        for name, array in arrays:
            key = _key(path, name)
            if key in written:
                what = f"{truncated(name)}: this name occurs twice"
                raise refused(path, what, "each name once", "Remove one of the arrays.")
            kind = _kind(path, name, array)
            values = np.asarray(array, KINDS[kind].stored, order="C").reshape(-1).view(np.uint8)
            place = Place(
                shard=0, offset=file.tell(), size=len(values), checksum=masked(crc32c(values))
            )
            file.write(values.data)
            written[key] = _Written(kind, array.shape, place)
    entries = {b"": _HEADER} | {key: written[key].entry() for key in sorted(written)}
    with index.open("wb") as file:
        write_table(file, entries.items())
        file.flush()
        os.fsync(file.fileno())  # before the data file is renamed
    try:
        _verify(index, data, entries, [one.place for one in written.values()])
    except DamageError as error:
        what = f"the written files read back differently ({error})"
        expected = "the same bytes that were written"
        raise refused(path, what, expected, "Pass a path on another disk.") from error


def _verify(index: Path, data: Path, entries: dict[bytes, bytes], places: Iterable[Place]) -> None:
    """Reads both files again, and compares them with what was written.

    Raises:
        DamageError: The contents differ.
    """
    table = Table(index)
    try:
        if dict(table.items()) != entries:
            raise DamageError("the index differs")
    finally:
        table.close()
    for place in places:
        if read_checked(data, place.offset, np.empty(place.size, np.uint8)) != place.checksum:
            raise DamageError(f"a checksum differs at byte {place.offset} of the data")


def _key(path: Path, name: str) -> bytes:
    """Returns a name as the bytes of a key in the index."""
    try:
        key = name.encode()
        name_of(key)
    except (UnicodeEncodeError, DamageError):
        key = b""
    if not key or len(name) > MAX_NAME:
        what = f"{truncated(name)}: this name is not supported in a checkpoint"
        expected = f"1 to {MAX_NAME} characters of UTF-8 text without NUL"
        raise refused(path, what, expected, "Rename the array.")
    return key


def _kind(path: Path, name: str, array: Array) -> int:
    """Returns the DataType of an array."""
    kind = _KINDS.get(array.dtype.newbyteorder("<"))
    if kind is None:
        expected = f"one of {', '.join(str(known) for known in _KINDS)}"
        what = f"{truncated(name)}: its dtype {truncated(array.dtype)} is not supported"
        raise refused(path, what, expected, "Convert the array first.")
    return kind
