"""Reads Keras weights as `layer/weight` from legacy .h5, complete models, .weights.h5 and .keras.

The model configuration in a file is used only for the names of layers. No layer is built from it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO
from zipfile import ZipFile

from forebear.text import truncated
from forebear.untrusted import parse_json
from forebear.weights.readers.base import Array
from forebear.weights.readers.errors import check_names, reading, refused
from forebear.weights.readers.indexed import Listed
from forebear.weights.readers.keras.hdf5 import EXPECTED, Hdf5, Stored
from forebear.weights.readers.keras.hdf5_objects import Node
from forebear.weights.readers.zip_archive import open_archive

WEIGHTS_MEMBER = "model.weights.h5"  # of a .keras archive
DEPTHWISE = "DepthwiseConv2D"
# Keras 3 files number the variables of a layer: {class: (name in the file, variable names)}.
NUMBERED: dict[str, tuple[str, tuple[str, ...]]] = {
    "Conv2D": ("conv2d", ("kernel", "bias")),
    DEPTHWISE: ("depthwise_conv2d", ("depthwise_kernel", "bias")),
    "BatchNormalization": (
        "batch_normalization",
        ("gamma", "beta", "moving_mean", "moving_variance"),
    ),
    "Dense": ("dense", ("kernel", "bias")),
}
# Keras 1 wrote `conv1_W:0`. Its running_std is in fact the variance.
_KERAS_1 = {
    "W": "kernel",
    "b": "bias",
    "running_mean": "moving_mean",
    "running_std": "moving_variance",
}
_MAX_CONFIG = 64 * 2**20  # bytes
_MAX_DEPTH = 8  # of nested models
_Found = list[tuple[str, Node | None]]  # (name, dataset), in the file's order


class KerasArrays(Listed[Stored]):
    """The arrays of one Keras file, in any of Keras's formats."""

    expected = EXPECTED

    def __init__(self, path: Path, archive: ZipFile | None = None) -> None:
        """Reads the names.

        Args:
            path: An HDF5 file, or the .keras archive that is open as `archive`.
            archive: The open archive. The caller closes it.

        Raises:
            WeightsError: The file has no Keras weights, or one of them is not a plain array.
        """
        self.path = path
        self._content = None if archive is None else _unpacked(path, archive)
        self._file = Hdf5(path, self._content)
        try:
            with reading(path, EXPECTED):
                self.model_config, self.format, found = _find(self._file, archive)
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
        """Closes the file, and deletes the unpacked content."""
        self._file.close()
        if self._content is not None:
            self._content.close()


def open_keras_archive(path: Path) -> KerasArrays:
    """Opens the weights of a .keras archive.

    Raises:
        WeightsError: The archive is missing or damaged, or it is a zip bomb.
    """
    with open_archive(path) as archive:
        return KerasArrays(path, archive)


def _unpacked(path: Path, archive: ZipFile) -> IO[bytes]:
    """Unpacks the HDF5 file of an archive to a temporary file, and verifies its CRC-32."""
    content: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (the reader closes it)
    try:
        with reading(path, "a .keras archive", WEIGHTS_MEMBER), archive.open(WEIGHTS_MEMBER) as h5:
            shutil.copyfileobj(h5, content, 2**20)
    except BaseException:
        content.close()
        raise
    return content


def _find(file: Hdf5, archive: ZipFile | None) -> tuple[str | bytes | None, str, _Found]:
    whole = file.child(file.root, "model_weights")
    for group in (file.root, whole):
        layers = file.strings(group, "layer_names") if group else None
        if group and layers is not None:
            kind = "weights" if group is file.root else "whole model"
            whole_config = file.text(file.root, "model_config")
            depthwise = _depthwise(whole_config)
            return whole_config, f"Keras HDF5 {kind}", _by_name(file, group, layers, depthwise)
    numbered = list(_numbered(file, file.root))
    if not numbered:
        raise refused(file.path, "it is an HDF5 file without Keras layers", EXPECTED)
    config = archive.read("config.json") if archive is not None and _small(archive) else None
    kind = "Keras 3 weights" if archive is None else "Keras 3 archive"
    return config, kind, _by_number(file, numbered, _layers(config))


# ---- weights that are stored under their names


def _by_name(file: Hdf5, group: Node, layers: list[str], depthwise: set[str]) -> _Found:
    found: _Found = []
    for layer in layers:
        held = file.child(group, layer)
        weights = file.strings(held, "weight_names") if held else None
        if held is None or weights is None:
            raise refused(
                file.path,
                f"{truncated(layer)}: this layer is listed, but its weights are missing",
                EXPECTED,
            )
        names = [_name(layer, weight, depthwise) for weight in weights]
        if len(set(names)) < len(names):  # a nested model: uses the names of its layers
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
    """Returns the layers whose `kernel` is called `depthwise_kernel` in Keras 2 and forebear."""
    return {name for kind, name in _layers(config) if kind == DEPTHWISE}


# ---- variables that are stored under numbers


def _numbered(
    file: Hdf5, group: Node, path: str = "", depth: int = 0
) -> Iterator[tuple[str, Node]]:
    """Yields the path of every layer with variables, and the group with its numbered variables."""
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
    """Returns a key to sort `conv2d`, `conv2d_1`, ..., `conv2d_10` by number, unlike HDF5."""
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
        if len(names) == 4 != len(numbers):  # a norm without scale or center: it is unknown which
            names = ()
        for number in numbers:
            place = int(number) if number.isdecimal() else len(names)
            last = names[place] if place < len(names) else number
            found.append((f"{layer}/{last}", file.child(held, number)))
    return found


def _keys(layers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Returns {path in the file: layer name}. Layers of each class are numbered in their order."""
    seen: Counter[str] = Counter()
    keys = {}
    for kind, name in layers:
        if kind in NUMBERED:
            key, number = NUMBERED[kind][0], seen[kind]
            keys[f"layers/{key}_{number}" if number else f"layers/{key}"] = name
            seen[kind] += 1
    return keys


# ---- the model configuration


def _small(archive: ZipFile) -> bool:
    members = {member.filename: member.file_size for member in archive.infolist()}
    return members.get("config.json", _MAX_CONFIG) < _MAX_CONFIG


def _layers(config: str | bytes | None) -> list[tuple[str, str]]:
    """Returns (class, name) of every layer in a model configuration, in its order."""
    model = parse_json(config) if config else {}
    settings = model.get("config") if isinstance(model, dict) else None
    listed = settings.get("layers") if isinstance(settings, dict) else settings
    found = []
    for layer in listed if isinstance(listed, list) else []:
        inner = layer.get("config") if isinstance(layer, dict) else None
        if isinstance(inner, dict):
            found.append((str(layer.get("class_name")), str(inner.get("name"))))
    return found
