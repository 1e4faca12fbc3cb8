"""Opens the variables of a TensorFlow SavedModel, or of a module of TensorFlow Hub.

The program in saved_model.pb is not read. Keras 2 stores the layers of a model beside it, in
keras_metadata.pb, whose format is tensorflow/core/protobuf/saved_metadata.proto of Keras.
"""

from __future__ import annotations

from pathlib import Path

from forebear.limits import LAYERS_BYTES
from forebear.untrusted import read_bytes
from forebear.weights.readers.base import Arrays
from forebear.weights.readers.tensorflow.corruption import DamageError, blame
from forebear.weights.readers.tensorflow.open import open_tensorflow
from forebear.weights.readers.tensorflow.protobuf import fields

_PROGRAMS = ("saved_model.pb", "saved_model.pbtxt", "tfhub_module.pb")
_VARIABLES = "variables"
_LAYERS = "keras_metadata.pb"
_NOTE = (
    "the program of the SavedModel is not read: the pixels that it takes, and layers without "
    "weights, are unknown"
)


def is_saved_model(folder: Path) -> bool:
    """Whether a folder is a SavedModel with variables."""
    there = any((folder / name).is_file() for name in _PROGRAMS)
    return there and Path(f"{_prefix(folder)}.index").is_file()


def open_saved_model(folder: Path) -> Arrays:
    """Opens the variables of a SavedModel.

    Raises:
        WeightsError: The variables, or Keras's description of the layers, are damaged.
    """
    layers = None
    path = folder / _LAYERS
    if path.is_file():
        with blame(path):
            layers = _root(memoryview(read_bytes(path, most=LAYERS_BYTES)))
    arrays = open_tensorflow(_prefix(folder))
    arrays.path, arrays.format = folder, "TensorFlow SavedModel"
    arrays.model_config, arrays.notes = layers, (_NOTE,)
    return arrays


def _prefix(folder: Path) -> Path:
    return folder / _VARIABLES / _VARIABLES


def _root(message: memoryview) -> str | None:
    """Returns the JSON of the model in a SavedMetadata; None if it is no model of layers."""
    for node in fields(message):
        if node.number == 1:
            parts = {part.number: part for part in fields(node.message())}
            if 3 in parts and bytes(parts[3].message()) == b"root" and 5 in parts:
                try:
                    return bytes(parts[5].message()).decode()
                except UnicodeDecodeError as error:
                    raise DamageError("the description of its layers is not UTF-8") from error
    return None
