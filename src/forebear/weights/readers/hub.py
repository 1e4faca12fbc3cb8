"""Reads folders from the Hugging Face Hub, which hold config.json and the weights.

A preset of KerasHub has its backbone in model.weights.h5, and its head in task.weights.h5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from forebear.untrusted import read_json
from forebear.weights.readers.base import Array, Arrays
from forebear.weights.readers.errors import check_names, reading, refused
from forebear.weights.readers.flax.flax_file import FlaxArrays
from forebear.weights.readers.indexed import Listed
from forebear.weights.readers.keras.hdf5 import EXPECTED as KERAS_FILE
from forebear.weights.readers.keras.hdf5 import Stored
from forebear.weights.readers.keras.keras import KerasArrays
from forebear.weights.readers.safetensors_file import SafetensorsArrays, open_index
from forebear.weights.readers.torch.state_dict import TorchArrays

_EXPECTED = "a timm, transformers or KerasHub folder with config.json and weights"
_HEAD = "task.weights.h5"  # of a KerasHub preset


class PresetArrays(Listed[Stored]):
    """The arrays of a KerasHub preset: those of its backbone, and those of its head."""

    expected = KERAS_FILE

    def __init__(self, path: Path) -> None:
        """Opens the backbone's file, and the head's next to it if there is one.

        Raises:
            WeightsError: A file is damaged, or both have an array of one name.
        """
        self.path, head = path, path.with_name(_HEAD)
        self._files: list[KerasArrays] = []
        try:
            for file in (path, head) if head.is_file() else (path,):
                self._files.append(KerasArrays(file))
            check_names(path, (name for file in self._files for name in file))
        except BaseException:
            self.close()
            raise
        self.entries = {name: one for file in self._files for name, one in file.entries.items()}
        self.format = self._files[0].format

    def read(self, name: str, entry: Stored) -> Array:
        """Reads an array from the file that has it."""
        return next(file[name] for file in self._files if name in file.entries)

    def close(self) -> None:
        """Closes both files."""
        for file in self._files:
            file.close()


# The first existing file is used, so a pickle is used only if there is nothing else.
_WEIGHTS: dict[str, Callable[[Path], Arrays]] = {
    "model.safetensors": SafetensorsArrays,
    "model.safetensors.index.json": open_index,
    "pytorch_model.bin": TorchArrays,
    "flax_model.msgpack": FlaxArrays,
    "model.weights.h5": PresetArrays,
}


@dataclass(frozen=True, slots=True)
class HubConfig:
    """The contents of config.json as plain data."""

    architecture: str | None  # timm: "resnet50"; transformers: "ResNetForImageClassification"
    num_classes: int | None
    pretrained_cfg: Mapping[str, Any]  # timm's size, mean, std, ...; empty for transformers
    data: Mapping[str, Any]  # the complete contents


def is_hub_folder(path: Path) -> bool:
    """Whether a folder contains a weights file with one of the Hub's names."""
    return any((path / name).is_file() for name in _WEIGHTS)


class HubArrays(Arrays):
    """The arrays of a folder, and its config."""

    def __init__(self, path: Path) -> None:
        """Opens the weights in the folder.

        Raises:
            WeightsError: config.json or the weights are missing or damaged.
        """
        self.path = path
        self.config = read_config(path)
        for name, reader in _WEIGHTS.items():
            if (path / name).is_file():
                self._arrays = reader(path / name)
                break
        else:
            what = f"this folder has none of the files {', '.join(_WEIGHTS)}"
            raise refused(path, what, _EXPECTED, "Download one of them as well.")
        self.format = f"Hub folder, {self._arrays.format}"
        self.unbuilt = self._arrays.unbuilt

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __getitem__(self, name: str) -> Array:
        return self._arrays[name]

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns the shape of an array in the weights file."""
        return self._arrays.shape(name)

    def dtype(self, name: str) -> np.dtype[Any]:
        """Returns the dtype of an array in the weights file."""
        return self._arrays.dtype(name)

    @property
    def whole(self) -> Arrays:
        """All arrays of the weights file."""
        return self._arrays.whole

    def scope(self, name: str) -> str:
        """Returns the part of a name that is names of dicts in the weights file."""
        return self._arrays.scope(name)

    def close(self) -> None:
        """Closes the weights files."""
        self._arrays.close()


def read_config(folder: Path) -> HubConfig:
    """Reads a folder's config.json. Missing keys give None or an empty mapping.

    Raises:
        WeightsError: config.json is missing, or it does not contain a JSON object.
    """
    path = folder / "config.json"
    with reading(path, _EXPECTED):
        data = read_json(path)
    if not isinstance(data, dict):
        raise refused(path, f"it holds a {type(data).__name__}, not an object", _EXPECTED)
    listed = data.get("architectures")
    architecture = data.get("architecture", listed[0] if isinstance(listed, list) and listed else 0)
    labels = data.get("id2label")
    classes = data.get("num_classes", len(labels) if isinstance(labels, dict) else None)
    pretrained = data.get("pretrained_cfg")
    return HubConfig(
        architecture=architecture if isinstance(architecture, str) else None,
        num_classes=classes if type(classes) is int else None,
        pretrained_cfg=pretrained if isinstance(pretrained, dict) else {},
        data=data,
    )
