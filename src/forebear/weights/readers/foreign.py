"""Names the formats of other frameworks that forebear does not read, and says what to do instead.

The sources are File.lua of Torch7, saveload_json.cc of nnvm for MXNet, schema.fbs of TensorFlow
Lite, and Model.proto of coremltools.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from forebear.weights.readers.tensorflow.corruption import DamageError
from forebear.weights.readers.tensorflow.protobuf import varint


@dataclass(frozen=True, slots=True)
class Foreign:
    """A format that is not read."""

    what: str  # the end of the sentence "this is ..."
    remedy: str  # a sentence


TORCH7 = Foreign(
    "a Torch7 file in ASCII; forebear reads binary ones",
    "Save it again in Torch7 with torch.save(path, network), which is binary.",
)
MXNET_SYMBOL = Foreign(
    "the symbol of an MXNet network, which has its graph and no arrays",
    "Pass the .params file next to it.",
)
ORBAX = Foreign(
    "an Orbax checkpoint of JAX; its names depend on the program that wrote it",
    "Restore it in JAX, and save its arrays under torchvision's names with numpy.savez.",
)
LITERT = Foreign(
    "a TensorFlow Lite model (.tflite); the converter folded its norms and may have rounded its "
    "weights to int8",
    "Pass the Keras file or the checkpoint that it was converted from.",
)
CORE_ML = Foreign(
    "a Core ML model; the converter folded its norms and may have compressed its weights",
    "Pass the PyTorch or Keras file that it was converted from.",
)
SAVED_MODEL_FILE = Foreign(
    "the program of a TensorFlow SavedModel, which forebear does not read",
    "Pass the folder that it is in, with the folder variables.",
)
SAVED_MODEL = Foreign(
    "a TensorFlow SavedModel without variables/variables.index; its weights are missing, or "
    "constants in its program",
    "Pass the complete folder, or the checkpoint that it was made from.",
)


def foreign_file(path: Path, start: bytes) -> Foreign | None:
    """Returns the format of a file, if it is one of these.

    Args:
        path: The file. Its name only tells a SavedModel from a Core ML model.
        start: The first 512 bytes.
    """
    for looks, kind in _FILES:
        if looks(start):
            return SAVED_MODEL_FILE if kind is CORE_ML and path.name == _SAVED_MODEL else kind
    return None


def foreign_folder(path: Path) -> Foreign | None:
    """Returns the format of a folder, if it is one of these."""
    return next((kind for name, kind in _FOLDERS if (path / name).is_file()), None)


def _is_torch7(start: bytes) -> bool:
    """A tag (3: table, 4: object) and the index 1 as text, with an object near."""
    return start.startswith(b"4\n1\n3\nV ") or (start.startswith(b"3\n1\n") and b"V 1" in start)


def _is_symbol(start: bytes) -> bool:
    """A JSON object whose first key is "nodes"."""
    return b"".join(start.split()).startswith(b'{"nodes":[')


def _is_core_ml(start: bytes) -> bool:
    """Model: a version, and a description (field 2) that starts with a message, not with text."""
    if len(start) < 4 or start[0] != 0x08 or not 0 < start[1] < 0x80 or start[2] != 0x12:
        return False
    try:
        at = varint(memoryview(start), 3)[1]
    except DamageError:
        return False
    return start[at : at + 1] == b"\x0a"


_SAVED_MODEL = "saved_model.pb"
_FILES: tuple[tuple[Callable[[bytes], bool], Foreign], ...] = (
    (lambda start: start[4:8] == b"TFL3", LITERT),
    (_is_torch7, TORCH7),
    (_is_symbol, MXNET_SYMBOL),
    (_is_core_ml, CORE_ML),
)
_FOLDERS = (
    ("tfhub_module.pb", SAVED_MODEL),
    (_SAVED_MODEL, SAVED_MODEL),
    ("manifest.ocdbt", ORBAX),
    ("_CHECKPOINT_METADATA", ORBAX),
    ("Manifest.json", CORE_ML),  # of a .mlpackage
)
