"""Writes a folder in the form of the Hugging Face Hub: model.safetensors and its JSON files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from forebear.errors import WeightsError
from forebear.text import truncated
from forebear.weights.writers.overwrite import write_new


def write_folder(
    folder: Path,
    arrays: Mapping[str, NDArray[Any]],
    files: Mapping[str, Mapping[str, Any]],
    *,
    replace: bool,
) -> int:
    """Writes a folder, and returns its number of arrays.

    Args:
        folder: Made here if it is missing.
        arrays: The content of model.safetensors, which is written first.
        files: JSON objects by file name, in the order of writing. Readers look for the last one, so
            that an interrupted write leaves no folder that loads.
        replace: Whether existing files may be overwritten.

    Raises:
        WeightsError: A file exists and `replace` is not set, or it cannot be written.
    """
    make_folder(folder)
    whole = {name: np.asarray(array, order="C") for name, array in arrays.items()}

    def write_weights(path: Path) -> None:
        save_file(whole, path, {"format": "pt"})

    write_new(folder / "model.safetensors", write_weights, replace=replace)
    write_objects(folder, files, replace=replace)
    return len(whole)


def make_folder(folder: Path) -> None:
    """Makes a folder if it is missing.

    Raises:
        WeightsError: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WeightsError(
            f"{truncated(folder)}: the folder cannot be made ({error.strerror}). Expected a path "
            "for a folder. Pass another path."
        ) from error


def write_objects(folder: Path, files: Mapping[str, Mapping[str, Any]], *, replace: bool) -> None:
    """Writes JSON objects by file name, in their order.

    Raises:
        WeightsError: A file exists and `replace` is not set, or it cannot be written.
    """
    for name, content in files.items():
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        write_new(
            folder / name,
            lambda path, text=text: path.write_text(text, "utf-8"),  # type: ignore[misc]
            replace=replace,
        )
