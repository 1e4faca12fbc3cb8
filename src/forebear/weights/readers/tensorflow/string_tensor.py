"""Reads a single string of a TensorFlow V2 checkpoint.

A tensor of strings is stored as the length of each string (a varint), a checksum of the lengths,
and the strings. The checksums take a length as a number of 4 bytes. The format is that of
WriteStringTensor in tensorflow/core/util/tensor_bundle/tensor_bundle.cc.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from forebear.weights.readers.tensorflow.corruption import DamageError
from forebear.weights.readers.tensorflow.crc32c import crc32c, masked
from forebear.weights.readers.tensorflow.protobuf import varint

_SUM = 4  # bytes of the checksum of the lengths


def read_string(file: Path, offset: int, size: int, checksum: int) -> memoryview:
    """Returns the string of a tensor that has one.

    Args:
        file: The data file.
        offset: Of the tensor in the file, in bytes.
        size: Of the tensor in bytes; the caller checks that it fits into memory.
        checksum: Of the tensor, masked.

    Raises:
        DamageError: The tensor is damaged, or it has several strings.
        OSError: The file cannot be read.
    """
    with file.open("rb") as source:
        source.seek(offset)
        data = source.read(size)
    if len(data) != size:
        raise DamageError("the file ends within its values")
    length, at = varint(memoryview(data), 0)
    if at + _SUM + length != size:
        raise DamageError(f"its string of {length} bytes is stored in {size} bytes")
    crc = crc32c(_bytes(length.to_bytes(4, "little")))
    if masked(crc) != int.from_bytes(data[at : at + _SUM], "little"):
        raise DamageError("the checksum of its length does not match")
    if masked(crc32c(_bytes(data[at:]), crc)) != checksum:
        raise DamageError("the checksum of its values does not match")
    return memoryview(data)[at + _SUM :]


def _bytes(data: bytes) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return np.frombuffer(data, np.uint8)
