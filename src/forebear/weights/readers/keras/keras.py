"""Keras weights: legacy .h5, whole models, .weights.h5 and .keras, as `layer/weight`.

The configuration in a file is text for names of layers; no layer is ever built from it.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO
from zipfile import ZipFile

from forebear.weights.readers.base import Array
from forebear.weights.readers.errors import check_names, reading, refused
from forebear.weights.readers.indexed import Listed
from forebear.weights.readers.keras.hdf5 import EXPECTED, Hdf5, Node, Stored
from forebear.weights.readers.zip_archive import open_archive

WEIGHTS_MEMBER = "model.weights.h5"  # of a .keras archive
DEPTHWISE = "DepthwiseConv2D"
# Keras 3 files number a layer's variables. Of each class: its name there, the variables' names.
NUMBERED: dict[str, tuple[str, tuple[str, ...]]] = {
    "Conv2D": ("conv2d", ("kernel", "bias")),
    DEPTHWISE: ("depthwise_conv2d", ("depthwise_kernel", "bias")),
    "BatchNormalization": (
        "batch_normalization",
        ("gamma", "beta", "moving_mean", "moving_variance"),
    ),
    "Dense": ("dense", ("kernel", "bias")),
}
# Keras 1 wrote `conv1_W:0`; what it calls running_std is the variance.
_KERAS_1 = {
    "W": "kernel",
    "b": "bias",
    "running_mean": "moving_mean",
    "running_std": "moving_variance",
}
_MAX_CONFIG = 64 * 2**20  # bytes
_MAX_DEPTH = 8  # of models within models
_Found = list[tuple[str, Node | None]]  # names and datasets, in the file's order


class KerasArrays(Listed[Stored]):
    """The arrays of one Keras file, whichever of its layouts it has."""

    expected = EXPECTED

    def __init__(self, path: Path, archive: ZipFile | None = None) -> None:
        """Reads the names.

        Args:
            path: An HDF5 file, or the .keras archive that is open as `archive`.
            archive: Closed by the caller.

        Raises:
            WeightsError: no Keras weights, or something that is not a plain array of the file.
        """
        self.path = path
        self._content = None if archive is None else _unpacked(path, archive)
        self._file = Hdf5(path, self._content)
        try:
            with reading(path, EXPECTED):
                self.format, found = _find(self._file, archive)
                check_names(path, (name for name, _ in found))
                self.entries = {}
                for name, dataset in found:
                    with reading(path, EXPECTED, name):
                        self.entries[name] = self._file.stored(dataset, name)
        except BaseException:
            self.close()
            raise

    def read(self, name: str, entry: Stored) -> Array:
        """Reads a dataset."""
        return self._file.read(entry)

    def close(self) -> None:
        """Closes the file, and lets go of what was unpacked."""
        self._file.close()
        if self._content is not None:
            self._content.close()


def open_keras_archive(path: Path) -> KerasArrays:
    """Opens the weights of a .keras archive.

    Raises:
        WeightsError: no such archive, or a bomb.
    """
    with open_archive(path) as archive:
        return KerasArrays(path, archive)


def _unpacked(path: Path, archive: ZipFile) -> IO[bytes]:
    """The HDF5 file of an archive, in a nameless temporary file; its CRC-32 is checked."""
    content: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (the reader closes it)
    try:
        with reading(path, "a .keras archive", WEIGHTS_MEMBER), archive.open(WEIGHTS_MEMBER) as h5:
            shutil.copyfileobj(h5, content, 2**20)
    except BaseException:
        content.close()
        raise
    return content


def _find(file: Hdf5, archive: ZipFile | None) -> tuple[str, _Found]:
    whole = file.child(file.root, "model_weights")
    for group in (file.root, whole):
        layers = file.strings(group, "layer_names") if group else None
        if group and layers is not None:
            kind = "weights" if group is file.root else "whole model"
            depthwise = _depthwise(file.text(file.root, "model_config"))
            return f"Keras HDF5 {kind}", _by_name(file, group, layers, depthwise)
    numbered = list(_numbered(file, file.root))
    if not numbered:
        raise refused(file.path, "HDF5 without a model's layers", EXPECTED)
    config = archive.read("config.json") if archive is not None and _small(archive) else None
    kind = "Keras 3 weights" if archive is None else "Keras 3 archive"
    return kind, _by_number(file, numbered, _layers(config))


# ---- layers and weights under their names


def _by_name(file: Hdf5, group: Node, layers: list[str], depthwise: set[str]) -> _Found:
    found: _Found = []
    for layer in layers:
        held = file.child(group, layer)
        weights = file.strings(held, "weight_names") if held else None
        if held is None or weights is None:
            raise refused(file.path, f"{layer}: listed, without weights", EXPECTED)
        names = [_name(layer, weight, depthwise) for weight in weights]
        if len(set(names)) < len(names):  # a model within the model: its layers' own names
            names = ["/".join(_bare(weight).split("/")[-2:]) for weight in weights]
        found += [(n, file.child(held, w)) for n, w in zip(names, weights, strict=True)]
    return found


def _name(layer: str, weight: str, depthwise: set[str]) -> str:
    last = _bare(weight).rpartition("/")[2].removeprefix(f"{layer}_")
    if last == "kernel" and layer in depthwise:
        last = "depthwise_kernel"
    return f"{layer}/{_KERAS_1.get(last, last)}"


def _bare(weight: str) -> str:
    return weight.removesuffix(":0")


def _depthwise(config: str | None) -> set[str]:
    """Layers whose `kernel` Keras 2 and forebear call `depthwise_kernel`."""
    return {name for kind, name in _layers(config) if kind == DEPTHWISE}


# ---- variables under numbers


def _numbered(
    file: Hdf5, group: Node, path: str = "", depth: int = 0
) -> Iterator[tuple[str, Node]]:
    """The path of every layer with variables, and the group that holds them under numbers."""
    keys = sorted(file.children(group), key=_in_order)
    for key in keys:
        held = file.child(group, key)
        if held is None or (not depth and key == "optimizer"):
            continue
        if key == "vars":
            if file.children(held):
                yield path, held
        elif depth < 2 * _MAX_DEPTH:
            yield from _numbered(file, held, f"{path}/{key}" if path else key, depth + 1)


def _in_order(key: str) -> tuple[str, int]:
    """`conv2d`, `conv2d_1`, ..., `conv2d_10`, which HDF5 lists by their letters."""
    base, _, number = key.rpartition("_")
    return (base, int(number)) if base and number.isdecimal() else (key, 0)


def _by_number(
    file: Hdf5, numbered: list[tuple[str, Node]], layers: list[tuple[str, str]]
) -> _Found:
    variables = dict(NUMBERED.values())
    known = _keys(layers)
    found: _Found = []
    for path, held in numbered:
        key = path.rpartition("/")[2]
        layer = file.text(held, "name") or known.get(path, path.removeprefix("layers/") or "model")
        numbers = sorted(file.children(held), key=_in_order)
        names = variables.get(_in_order(key)[0], ())
        if len(names) == 4 != len(numbers):  # a norm without scale or centre: unknowable which
            names = ()
        for number in numbers:
            place = int(number) if number.isdecimal() else len(names)
            last = names[place] if place < len(names) else number
            found.append((f"{layer}/{last}", file.child(held, number)))
    return found


def _keys(layers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """{path in the file: layer's name}: layers are numbered class by class, in their order."""
    seen: Counter[str] = Counter()
    keys = {}
    for kind, name in layers:
        if kind in NUMBERED:
            key, number = NUMBERED[kind][0], seen[kind]
            keys[f"layers/{key}_{number}" if number else f"layers/{key}"] = name
            seen[kind] += 1
    return keys


# ---- the configuration, as text


def _small(archive: ZipFile) -> bool:
    members = {member.filename: member.file_size for member in archive.infolist()}
    return members.get("config.json", _MAX_CONFIG) < _MAX_CONFIG


def _layers(config: str | bytes | None) -> list[tuple[str, str]]:
    """Class and name of every layer of a model's configuration, in its order."""
    model = json.loads(config) if config else {}
    settings = model.get("config") if isinstance(model, dict) else None
    listed = settings.get("layers") if isinstance(settings, dict) else settings
    found = []
    for layer in listed if isinstance(listed, list) else []:
        inner = layer.get("config") if isinstance(layer, dict) else None
        if isinstance(inner, dict):
            found.append((str(layer.get("class_name")), str(inner.get("name"))))
    return found
