"""Writes the weights files of Keras 3 and Keras 2: .weights.h5 and legacy .h5.

Both formats depend on the order of the layers. The layers must be in the order of Keras's
`model.layers`, and their weights in the order of `layer.weights`.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forebear.errors import WeightsError, near_misses
from forebear.weights.readers.keras.keras import NUMBERED
from forebear.weights.writers.overwrite import write_new

# (name, Keras class, [(weight name, array)]). The weight names are kernel, gamma and so on.
Layer = tuple[str, str, Sequence[tuple[str, NDArray[Any]]]]


def write_keras(path: Path, layers: Sequence[Layer], *, replace: bool = False) -> None:
    """Writes a Keras 3 weights file.

    Args:
        path: The file. Keras requires that it ends in .weights.h5.
        layers: The layers with weights, in Keras's order.
        replace: Whether to replace an existing file.

    Raises:
        ValueError: The suffix is wrong, or the weights of a layer are not those of its class.
        WeightsError: h5py is missing, the file exists and `replace` is not set, or it cannot be
            written.
    """
    if not path.name.endswith(".weights.h5"):
        raise ValueError(
            f"path={str(path)!r}: Keras does not load weights from a file with this name. Expected "
            "a name that ends in .weights.h5. Rename it."
        )
    library = _h5py()
    numbered = _numbered(layers)

    def write(partial: Path) -> None:
        with library.File(partial, "w") as file:
            file.create_group("vars")
            for key, (name, _, weights) in numbered:
                variables = file.create_group(f"layers/{key}/vars")
                variables.attrs["name"] = name
                for number, (_, array) in enumerate(weights):
                    variables[str(number)] = array

    write_new(path, write, replace=replace)


def write_keras_legacy(path: Path, layers: Sequence[Layer], *, replace: bool = False) -> None:
    """Writes a Keras 2 weights file, which is the format of the published weights.

    Args:
        path: The file, which should end in .h5.
        layers: The layers with weights, in Keras's order.
        replace: Whether to replace an existing file.

    Raises:
        ValueError: The weights of a layer are not those of its class.
        WeightsError: h5py is missing, the file exists and `replace` is not set, or it cannot be
            written.
    """
    library = _h5py()
    _numbered(layers)

    def write(partial: Path) -> None:
        with library.File(partial, "w") as file:
            file.attrs["layer_names"] = _bytes(name for name, _, _ in layers)
            file.attrs["backend"] = np.bytes_("tensorflow")
            file.attrs["keras_version"] = np.bytes_("2.2.4")
            for name, _, weights in layers:
                group = file.create_group(name)
                names = [f"{name}/{weight}:0" for weight, _ in weights]
                group.attrs["weight_names"] = _bytes(names)
                for weight, (_, array) in zip(names, weights, strict=True):
                    group[weight] = array

    write_new(path, write, replace=replace)


def _h5py() -> Any:
    try:
        return importlib.import_module("h5py")
    except ImportError as error:
        raise WeightsError(
            f"h5py cannot be imported ({error}). Writing Keras files requires it; reading does "
            "not. Run: pip install 'forebear[keras]'"
        ) from error


def _numbered(layers: Sequence[Layer]) -> list[tuple[str, Layer]]:
    """Returns each layer with its key in a Keras 3 file: the name and number of its class.

    Raises:
        ValueError: A class is unknown, or the weights of a layer are not those of its class. The
            message names the layer.
    """
    seen: Counter[str] = Counter()
    found = []
    for layer in layers:
        name, kind, weights = layer
        if kind not in NUMBERED:
            raise ValueError(
                f"layer {name}: class {kind!r} is not supported. Expected one of "
                f"{', '.join(NUMBERED)}. Correct the class, or omit the layer."
                f"{near_misses(kind, NUMBERED)}"
            )
        key, all_of = NUMBERED[kind]
        names = tuple(weight for weight, _ in weights)
        if names != all_of[: max(1, len(names))] or (len(all_of) == 4 != len(names)):
            raise ValueError(
                f"layer {name}: its weights are {', '.join(names) or 'none'}. Expected those of "
                f"{kind}: {', '.join(all_of)}, in this order. Reorder them, or omit the layer."
            )
        found.append((f"{key}_{seen[key]}" if seen[key] else key, layer))
        seen[key] += 1
    return found


def _bytes(names: Iterable[str]) -> NDArray[np.bytes_]:
    return np.array([name.encode() for name in names])
