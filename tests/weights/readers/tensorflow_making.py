"""Checkpoints made by hand, whole and damaged, and the goldens that TensorFlow made."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pytest

from forebear.errors import WeightsError
from forebear.weights.readers.base import Array
from forebear.weights.readers.tensorflow.crc32c import crc32c, masked
from forebear.weights.readers.tensorflow.open import open_tensorflow
from forebear.weights.readers.tensorflow.tensor_records import FULL, Slice, slice_key, whole
from forebear.weights.writers.tensorflow.protobuf import fixed32, message, number
from forebear.weights.writers.tensorflow.sstable import write_table

GOLDENS = Path(__file__).parent / "goldens" / "tensorflow"
SHARED = Path(__file__).parents[3].parent / "shared" / "goldens" / "checkpoints"


def shared(name: str) -> Path:
    """A prefix among all goldens; the test is skipped where they are not."""
    if not SHARED.exists():
        pytest.skip("no goldens beside the repository")
    return SHARED / name


def copied(prefix: Path, folder: Path) -> Path:
    """The files of a checkpoint in a folder of their own, under the same prefix."""
    for file in prefix.parent.glob(f"{prefix.name}*"):
        shutil.copyfile(file, folder / file.name)
    return folder / prefix.name


def crc(data: bytes) -> int:
    return masked(crc32c(np.frombuffer(data, np.uint8)))


def table(entries: Mapping[bytes, bytes]) -> bytes:
    file = io.BytesIO()
    write_table(file, sorted(entries.items()))
    return file.getvalue()


def block(contents: bytes, compression: int = 0) -> bytes:
    """A block with its trailer."""
    body = contents + bytes([compression])
    return body + crc(body).to_bytes(4, "little")


def mended(data: bytes, offset: int, size: int) -> bytes:
    """A table in which the block at `offset` has the checksum of what stands there now."""
    body = data[offset : offset + size + 1]
    return data[: offset + size + 1] + crc(body).to_bytes(4, "little") + data[offset + size + 5 :]


def shape(sizes: Iterable[int]) -> bytes:
    """The fields of a TensorShapeProto."""
    return b"".join(message(2, number(1, size)) for size in sizes)


def extents(part: Slice) -> bytes:
    """The fields of a TensorSliceProto."""
    return b"".join(
        message(1) if length == FULL else message(1, number(1, start), number(2, length))
        for start, length in part
    )


def saved(part: Slice, values: bytes, name: str = "a") -> bytes:
    """V1's value of a slice; `values` are the fields of its TensorProto."""
    return message(2, message(1, name.encode()), message(2, extents(part)), message(3, values))


def described(
    sizes: tuple[int, ...], parts: Iterable[Slice], kind: int = 1, name: str = "a"
) -> bytes:
    """What V1's first entry says of an array."""
    slices = [message(4, extents(part)) for part in parts]
    return message(1, message(1, name.encode()), message(2, shape(sizes)), number(3, kind), *slices)


def v1(arrays: Mapping[str, Array]) -> bytes:
    """A V1 file of float32 arrays, each whole."""
    entries = {
        b"": message(1, *(described(a.shape, [whole(a.shape)], 1, n) for n, a in arrays.items()))
    }
    for name, array in arrays.items():
        part = whole(array.shape)
        entries[slice_key(name, part)] = saved(part, message(5, array.tobytes()), name)
    return table(entries)


def v1_of(part: bytes, pieces: Mapping[Slice, bytes], path: Path) -> Path:
    """A V1 file of the one array `a`, described and stored as given."""
    entries = {slice_key("a", where): saved(where, values) for where, values in pieces.items()}
    path.write_bytes(table({b"": message(1, part)} | entries))
    return path


def v2_of(
    entries: Mapping[bytes, bytes], path: Path, data: bytes = b"", header: bytes = number(1, 1)
) -> Path:
    """A V2 checkpoint with these entries, in one data file."""
    Path(f"{path}.index").write_bytes(table({b"": header} | dict(entries)))
    Path(f"{path}.data-00000-of-00001").write_bytes(data)
    return path


def read_all(path: Path) -> dict[str, Array]:
    with open_tensorflow(path) as arrays:
        return {name: arrays[name] for name in arrays}


def refusals(path: Path) -> list[str]:
    """What a damaged checkpoint is refused with; where it is not, its arrays are as it says."""
    said = []
    try:
        with open_tensorflow(path) as arrays:
            for name in arrays:
                try:
                    array = arrays[name]
                    assert array.shape == arrays.shape(name)
                    assert array.dtype == arrays.dtype(name)
                except WeightsError as error:
                    said.append(str(error))
    except WeightsError as error:
        said.append(str(error))
    assert all(line.isprintable() and path.name in line for line in said), said
    return said


V1 = GOLDENS / "odd.format_v1.ckpt"
V2 = GOLDENS / "odd.format_v2.ckpt"
V2_DATA = "odd.format_v2.ckpt.data-00000-of-00001"


def entry(sizes: tuple[int, ...], size: int, *more: bytes, kind: int = 1) -> bytes:
    return b"".join((number(1, kind), message(2, shape(sizes)), number(5, size), *more))


SUM = fixed32(6, crc(bytes(16)))
