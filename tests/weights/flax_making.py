"""Writes Flax files: msgpack as flax.serialization writes it, of any nested values."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import torch

import forebear
from forebear.weights.variable_names import pairs

STATISTICS = ("mean", "var")


def packed(value: Any) -> bytes:
    """Returns a value in msgpack. Arrays are extensions of type 1, scalars of NumPy of type 3."""
    match value:
        case None | bool():
            return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
        case int():
            return _number(value)
        case float():
            return b"\xcb" + struct.pack(">d", value)
        case str():
            data = value.encode()
            return _head(len(data), 0xA0, 32, (0xD9, 0xDA, 0xDB)) + data
        case bytes():
            return _head(len(value), 0, 0, (0xC4, 0xC5, 0xC6)) + value
        case list() | tuple():
            return _head(len(value), 0x90, 16, (0, 0xDC, 0xDD)) + b"".join(map(packed, value))
        case dict():
            inner = b"".join(packed(key) + packed(one) for key, one in value.items())
            return _head(len(value), 0x80, 16, (0, 0xDE, 0xDF)) + inner
        case np.ndarray():
            return extension(1, array_of(value.shape, value.dtype.name, value.tobytes()))
        case np.generic():
            return extension(3, array_of((), value.dtype.name, value.tobytes()))
    raise TypeError(type(value))


def array_of(shape: Any, dtype: Any, values: Any) -> bytes:
    """Returns the inside of an array's extension."""
    return packed((list(shape), dtype, values))


def extension(kind: int, data: bytes) -> bytes:
    """Returns a value of a type of the program's own."""
    fixed = {1: 0xD4, 2: 0xD5, 4: 0xD6, 8: 0xD7, 16: 0xD8}
    if len(data) in fixed:
        return bytes([fixed[len(data)]]) + struct.pack(">b", kind) + data
    return _head(len(data), 0, 0, (0xC7, 0xC8, 0xC9)) + struct.pack(">b", kind) + data


def chunked(array: np.ndarray[Any, Any], size: int) -> dict[str, Any]:
    """Returns an array as Flax stores one of more than 2^30 bytes, in chunks of `size` values."""
    flat = array.reshape(-1)
    chunks = [flat[start : start + size] for start in range(0, flat.size, size)]
    return {
        "__msgpack_chunked_array__": True,
        "shape": {str(axis): length for axis, length in enumerate(array.shape)},
        "chunks": {str(place): chunk for place, chunk in enumerate(chunks)},
    }


def variables_of(network: forebear.Network) -> dict[str, Any]:
    """Returns the variables of a network whose dialect has Flax's names: nested dicts."""
    found: dict[str, Any] = {"params": {}, "batch_stats": {}}
    state = network.state_dict()
    for pair in pairs(network.plan):
        *scope, name = pair.theirs.split("/")
        place = found["batch_stats" if name in STATISTICS else "params"]
        for part in scope:
            place = place.setdefault(part, {})
        ours: torch.Tensor = state[pair.ours]
        place[name] = np.ascontiguousarray(pair.layout.store(ours.detach().numpy()))
    return found


def _number(value: int) -> bytes:
    if 0 <= value < 128:
        return bytes([value])
    if -32 <= value < 0:
        return bytes([value + 256])
    form, mark = (">Q", 0xCF) if value >= 0 else (">q", 0xD3)
    return bytes([mark]) + struct.pack(form, value)


def _head(length: int, fixed: int, most: int, marks: tuple[int, int, int]) -> bytes:
    """Returns the first bytes of a value with a length."""
    if length < most:
        return bytes([fixed | length])
    forms = [(256, ">B"), (65_536, ">H"), (2**32, ">I")]
    for mark, (limit, form) in zip(marks, forms, strict=True):
        if mark and length < limit:
            return bytes([mark]) + struct.pack(form, length)
    raise ValueError(length)
