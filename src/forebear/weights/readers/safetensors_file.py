"""Reads safetensors, as one file or as shards with an index. safetensors validates the headers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from forebear.text import truncated
from forebear.untrusted import read_json
from forebear.weights.readers.base import Array
from forebear.weights.readers.errors import check_names, reading, refused
from forebear.weights.readers.indexed import Listed

_EXPECTED = "a whole safetensors file"
_MAX_INDEX = 16 * 2**20  # bytes
_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(np.float32),  # numpy has no bfloat16; every bfloat16 is exact in float32
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U64": np.dtype(np.uint64),
    "U32": np.dtype(np.uint32),
    "U16": np.dtype(np.uint16),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}


def is_safetensors(start: bytes, size: int) -> bool:
    """Whether a file of `size` bytes with this start looks like safetensors: a length, then "{"."""
    return 10 <= 8 + int.from_bytes(start[:8], "little") <= size and start[8:9] == b"{"


@dataclass(frozen=True, slots=True)
class _Tensor:
    file: Any  # the open file
    path: Path  # of the shard
    shape: tuple[int, ...]
    kind: str

    @property
    def dtype(self) -> np.dtype[Any]:
        return _DTYPES[self.kind]


class SafetensorsArrays(Listed[_Tensor]):
    """The arrays of one file, or of all shards in an index."""

    expected = _EXPECTED

    def __init__(self, path: Path, shards: Sequence[Path] = ()) -> None:
        """Reads the headers.

        Args:
            path: The file, or the index.
            shards: The files in the index.

        Raises:
            WeightsError: A file is damaged, or numpy does not support the dtype of an array.
        """
        self.path = path
        self.format = "safetensors in shards" if shards else "safetensors"
        self._files = ExitStack()
        self.entries = {}
        try:
            for shard in shards or (path,):
                self._open(shard)
        except BaseException:
            self.close()
            raise

    def _open(self, shard: Path) -> None:
        with reading(shard, _EXPECTED):
            file: Any = self._files.enter_context(safe_open(shard, "np"))
            names = list(file.keys())
            check_names(shard, [*self.entries, *names])
            for name in names:
                described = file.get_slice(name)
                kind, shape = described.get_dtype(), tuple(described.get_shape())
                if kind not in _DTYPES:
                    raise refused(
                        shard,
                        f"{truncated(name)}: its type {kind} is not supported",
                        f"one of {', '.join(_DTYPES)}",
                        "Save it as F32.",
                    )
                self.entries[name] = _Tensor(file, shard, shape, kind)

    def read(self, name: str, entry: _Tensor) -> Array:
        """Reads an array. torch reads bfloat16, because numpy does not support it."""
        with reading(entry.path, _EXPECTED, name):
            if entry.kind != "BF16":
                array: Array = entry.file.get_tensor(name)
                return array
            with safe_open(entry.path, "pt") as by_torch:
                wide: Array = by_torch.get_tensor(name).float().numpy()
                return wide

    def close(self) -> None:
        """Closes all shards."""
        self._files.close()


def open_index(path: Path) -> SafetensorsArrays:
    """Opens the shards in a `*.safetensors.index.json`, which must be in the same folder.

    Raises:
        WeightsError: The index is missing or damaged, a shard is in another folder, or the arrays
            of a shard differ from the index.
    """
    listed: dict[str, set[str]] = defaultdict(set)
    for name, shard in _weight_map(path).items():
        listed[shard].add(name)
    for shard in listed:
        if not shard.endswith(".safetensors") or shard != Path(shard).name or "\\" in shard:
            raise refused(
                path,
                f"it lists the shard {truncated(repr(shard))}",
                "names of .safetensors files in the same folder",
                "Do not trust this file.",
            )
    arrays = SafetensorsArrays(path, [path.parent / shard for shard in sorted(listed)])
    held = {name: tensor.path.name for name, tensor in arrays.entries.items()}
    wrong = {name for shard, names in listed.items() for name in names if held.get(name) != shard}
    wrong |= held.keys() - set().union(*listed.values())
    if wrong:
        arrays.close()
        raise refused(
            path,
            f"{truncated(min(wrong))}: this array is not in the shard that the index lists",
            "shards and an index of the same network",
            "Download all of them again.",
        )
    return arrays


def _weight_map(path: Path) -> dict[str, str]:
    expected = 'an index with a "weight_map" from names to files'
    with reading(path, expected):
        index = read_json(path, most=_MAX_INDEX)
    found = index.get("weight_map") if isinstance(index, dict) else None
    whole = isinstance(found, dict) and all(isinstance(shard, str) for shard in found.values())
    if not found or not whole:
        raise refused(path, 'it has no "weight_map"', expected)
    weight_map: dict[str, str] = found
    return weight_map
