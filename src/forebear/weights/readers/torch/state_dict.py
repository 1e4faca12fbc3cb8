"""Reads the tensors of torch's .pth, .pt, .th and .ckpt files, whatever dicts they are in."""

from __future__ import annotations

import math
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from forebear.limits import NESTING, PICKLE_BYTES
from forebear.text import truncated
from forebear.weights.readers.base import Array, Arrays
from forebear.weights.readers.errors import check_names, largest_content, reading, refused
from forebear.weights.readers.indexed import Listed
from forebear.weights.readers.torch.pickle_tree import read_pickles
from forebear.weights.readers.torch.pickle_values import (
    SAVE,
    OtherTensor,
    Storage,
    Strided,
    Unbuilt,
    plain,
)
from forebear.weights.readers.torch.storages import (
    TYPES,
    LegacyStorages,
    Storages,
    ZipStorages,
    check_storage,
    read_tensor,
    type_given,
)
from forebear.weights.set_words import is_average, is_beside

# Files that torch.save wrote before torch 1.6 start with a pickle of its magic number.
_MAGIC = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
LEGACY_START = b"\x80\x02" + _MAGIC
_LEGACY_PICKLES = 5  # magic number, protocol, system, the object, and the keys of the storages
_EXPECTED = "a state dict that torch.save wrote"
_REMEDY = "Save model.state_dict()."
# Modules that wrap a network, and attributes that usually hold one.
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.")


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of the file."""

    tensor: Strided
    scope: str  # names of the dicts that it is in, each with a dot: "state_dict."

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the tensor."""
        return self.tensor.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype in which the tensor is returned."""
        return type_given(self.tensor.kind)


def is_legacy(start: bytes) -> bool:
    """Whether a file that starts with these bytes is one of torch.save before torch 1.6.

    Later protocols of pickle add the length of a frame before the magic number.
    """
    return start.startswith(b"\x80") and start[2:3] in b"\x8a\x95" and _MAGIC in start[:24]


class TorchTensors(Listed[Entry]):
    """Tensors of an open file."""

    expected = _EXPECTED

    def __init__(self, path: Path, storages: Storages, entries: dict[str, Entry]) -> None:
        """Takes over tensors that were checked. The caller closes `storages`."""
        self.path, self.entries = path, entries
        self._storages = storages

    def read(self, name: str, entry: Entry) -> Array:
        """Copies a tensor from the file. The copy remains valid without the file."""
        return read_tensor(self._storages, entry.tensor)

    def scope(self, name: str) -> str:
        """Returns the part of a name that is names of dicts."""
        return self.entries[name].scope

    def close(self) -> None:
        """Forgets all names."""
        self.entries = {}


class TorchArrays(TorchTensors):
    """The tensors of the dict with the most tensors. A common prefix of all names is removed.

    `whole` has the tensors of all dicts, also those of optimizers. `architecture` is the name of
    the network that training scripts keep as "arch".
    """

    architecture: str | None = None

    def __init__(self, path: Path) -> None:
        """Reads the names. The values stay in the file until they are accessed.

        Raises:
            WeightsError: The file contains no named, dense tensors, or asks for a global that may
                act, which the message names. Nothing is executed.
        """
        with path.open("rb") as file:
            legacy = is_legacy(file.read(64))
        self.format = "torch legacy pickle" if legacy else "torch zip"
        unbuilt: set[str] = set()
        storages, content = (_open_legacy if legacy else _open_zip)(path, unbuilt)
        super().__init__(path, storages, {})
        self.unbuilt = tuple(sorted(unbuilt))
        try:
            with reading(path, _EXPECTED):
                self.architecture = _architecture(content)
                found = _dicts(content)
                chosen = _choose(path, content, found, self.unbuilt)
                whole = _entries(path, found, storages)
                prefix = "".join(f"{part}." for part in chosen)
                names = [prefix + name for name in found[chosen]]
                cut = len(prefix) + len(_common_prefix(found[chosen]))
                self.entries = {name[cut:]: whole[name] for name in names if name in whole}
                check_names(path, self.entries)
        except BaseException:
            storages.close()
            raise
        self._whole = TorchTensors(path, storages, whole)
        self._whole.format = self.format
        self._whole.unbuilt = self.unbuilt

    @property
    def whole(self) -> Arrays:
        """All tensors of the file, under the names of their dicts and their own."""
        return self._whole

    def close(self) -> None:
        """Closes the file, and forgets all names."""
        super().close()
        self._whole.close()
        self._storages.close()


def _architecture(content: object) -> str | None:
    name = content.get("arch") if isinstance(content, dict) else None
    return name if isinstance(name, str) else None


def _open_zip(path: Path, unbuilt: set[str]) -> tuple[Storages, object]:
    with reading(path, _EXPECTED):
        storages = ZipStorages(path, _EXPECTED)
        try:
            (content,), _ = read_pickles(path, storages.pickled, 1, unbuilt)
        except BaseException:
            storages.close()
            raise
    return storages, content


def _open_legacy(path: Path, unbuilt: set[str]) -> tuple[Storages, object]:
    with reading(path, _EXPECTED):
        if tarfile.is_tarfile(path):
            raise refused(path, "it is both a tar archive and a pickle", _EXPECTED)
        with path.open("rb") as file:
            start = file.read(PICKLE_BYTES)
        described: list[Storage] = []
        pickles, end = read_pickles(path, start, _LEGACY_PICKLES, unbuilt, described)
        _, _, system, content, keys = pickles
        widths = {one.key: TYPES[one.kind].itemsize for one in described if one.kind in TYPES}
        little = not isinstance(system, dict) or system.get("little_endian", True)
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise ValueError("it has no list of its storages")
        listed = []
        for key in keys:
            if key not in widths:
                raise ValueError(f"its storage {truncated(key)} has an unknown type")
            listed.append((key, widths[key]))
        return LegacyStorages(path, end, listed, "<" if little else ">"), content


_Names = dict[str, Strided | OtherTensor]


def _dicts(content: object) -> dict[tuple[str, ...], _Names]:
    """Returns the named tensors of every dict and list, by the names that lead to it."""
    found: dict[tuple[str, ...], _Names] = {}
    seen: set[int] = set()
    level: list[tuple[tuple[str, ...], object]] = [((), content)]
    for _ in range(NESTING):
        below: list[tuple[tuple[str, ...], object]] = []
        for path, held in level:
            if id(held) in seen:
                continue
            seen.add(id(held))
            for key, value in _items(held):
                value = plain(value)
                if isinstance(value, Strided | OtherTensor):
                    found.setdefault(path, {})[str(key)] = value
                elif isinstance(value, dict | list | tuple):
                    below.append(((*path, str(key)), value))
        level = below
    return found


def _items(held: object) -> Iterator[tuple[object, Any]]:
    if isinstance(held, dict):
        return iter(held.items())
    return enumerate(held) if isinstance(held, list | tuple) else iter(())


def _choose(
    path: Path,
    content: object,
    found: Mapping[tuple[str, ...], _Names],
    unbuilt: tuple[str, ...],
) -> tuple[str, ...]:
    """Returns the names that lead to the dict with the most tensors, not of averages.

    Raises:
        WeightsError: There is no such dict, or one of its tensors is not dense.
    """
    named = [key for key in found if isinstance(_at(content, key), dict)]
    usual = [key for key in named if not any(map(is_beside, key))]
    raw = [key for key in usual if not any(map(is_average, key))] or usual
    if not raw:
        raise refused(path, _kind(content, unbuilt), _EXPECTED, SAVE if unbuilt else _REMEDY)
    chosen = max(raw, key=lambda key: len(found[key]))
    for name, tensor in found[chosen].items():
        what = tensor.what if isinstance(tensor, OtherTensor) else f"values of type {tensor.kind}"
        if isinstance(tensor, OtherTensor) or tensor.kind not in TYPES:
            raise refused(
                path,
                f"{truncated(name)}: it is a tensor with {truncated(what)}",
                f"dense tensors of one of the types {', '.join(TYPES)}",
                "Save it as a dense float32 tensor.",
            )
    return chosen


def _at(content: object, path: tuple[str, ...]) -> object:
    for part in path:
        content = next(value for key, value in _items(content) if str(key) == part)
    return content


def _kind(content: object, unbuilt: tuple[str, ...]) -> str:
    if isinstance(content, Unbuilt):
        return f"it holds an object of {truncated(content.name)}, not a state dict"
    kinds = {Strided: "a tensor", OtherTensor: "a tensor", dict: "a dict without tensors"}
    kind = "an empty dict" if content == {} else kinds.get(type(content), "other data")
    left = f" (left unbuilt: {truncated(', '.join(unbuilt))})" if unbuilt else ""
    return f"it holds {kind}, not a state dict{left}"


def _entries(
    path: Path, found: Mapping[tuple[str, ...], _Names], storages: Storages
) -> dict[str, Entry]:
    """Returns all dense tensors under their full names, after a check of their storages."""
    entries: dict[str, Entry] = {}
    most = largest_content(path.stat().st_size)
    total = 0
    for parts, tensors in found.items():
        scope = "".join(f"{part}." for part in parts)
        dense = {name: one for name, one in tensors.items() if isinstance(one, Strided)}
        for name, tensor in dense.items():
            if tensor.kind not in TYPES:
                continue
            with reading(path, _EXPECTED, name):
                check_storage(storages, tensor)
            total += math.prod(tensor.shape) * TYPES[tensor.kind].itemsize
            if total > most:
                raise refused(
                    path,
                    f"{truncated(name)}: with {truncated(list(tensor.shape))} the tensors have "
                    f"{truncated(total)} bytes",
                    f"at most {most} bytes for a file of this size",
                    SAVE,
                )
            entries.setdefault(scope + name, Entry(tensor, scope))
    check_names(path, entries)
    return entries


def _common_prefix(names: Mapping[str, object]) -> str:
    """Returns the part that all names begin with and that names only what holds the network."""
    cut = ""
    while True:
        more = [one for one in _PREFIXES if all(name.startswith(cut + one) for name in names)]
        if not more:
            return cut
        cut += more[0]
