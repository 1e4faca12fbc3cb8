"""Writes MXNet .params files without MXNet, in each version of the format; finds real ones."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from forebear.weights.readers.mxnet.ndarrays import MAGIC, read_arrays

GOLDENS = Path(__file__).parent / "goldens" / "mxnet"
FLAGS = {"f4": 0, "f8": 1, "f2": 2, "u1": 3, "i4": 4, "i1": 5, "i8": 6, "b1": 7}
VERSIONS = {1: 0xF993FAC8, 2: 0xF993FAC9, 3: 0xF993FACA}


def golden(name: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The arrays and the symbol that MXNet wrote."""
    data = memoryview((GOLDENS / f"{name}-0000.params").read_bytes())
    arrays = {key: one.values(GOLDENS) for key, one in read_arrays(data).items()}
    symbol = json.loads((GOLDENS / f"{name}-symbol.json").read_text("utf-8"))
    return arrays, symbol


def array(
    values: NDArray[Any], version: int, *, storage: int = 0, flag: int | None = None
) -> bytes:
    """One array. Version 0 has no number of its own and sides of 32 bits."""
    sides = struct.pack(f"<{values.ndim}{'q' if version else 'I'}", *values.shape)
    parts = [struct.pack("<I", VERSIONS[version])] if version else []
    parts += [struct.pack("<i", storage)] if version >= 2 else []
    kind = FLAGS[values.dtype.str[1:]] if flag is None else flag
    parts += [struct.pack("<I", values.ndim), sides, struct.pack("<iii", 1, 0, kind)]
    return b"".join([*parts, values.tobytes()])


def params(arrays: Mapping[str, NDArray[Any]], version: int = 2) -> bytes:
    """A .params file."""
    return listed([array(one, version) for one in arrays.values()], [*arrays])


def listed(arrays: list[bytes], names: list[str]) -> bytes:
    """A .params file of such arrays."""
    texts = [struct.pack("<Q", len(name.encode())) + name.encode() for name in names]
    counts = (struct.pack("<Q", len(some)) for some in (arrays, names))
    return b"".join([MAGIC, bytes(8), next(counts), *arrays, next(counts), *texts])


def put(folder: Path, data: bytes, symbol: Any, name: str = "net-0000.params") -> Path:
    """Writes both files, and returns the path of the arrays."""
    stem = name.removesuffix(".params").removesuffix("-0000")
    text = symbol if isinstance(symbol, str) else json.dumps(symbol)
    (folder / f"{stem}-symbol.json").write_text(text, "utf-8")
    (folder / name).write_bytes(data)
    return folder / name
