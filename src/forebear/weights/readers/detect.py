"""Selects the reader of a file by its content. Names and suffixes are ignored."""

from __future__ import annotations

from pathlib import Path

from forebear.errors import WeightsError
from forebear.text import truncated
from forebear.weights.readers.base import Arrays
from forebear.weights.readers.caffe.caffe_file import CaffeArrays, is_caffe
from forebear.weights.readers.errors import reading, refused
from forebear.weights.readers.flax.flax_file import FlaxArrays, is_flax
from forebear.weights.readers.foreign import Foreign, foreign_file, foreign_folder
from forebear.weights.readers.hub import HubArrays, is_hub_folder
from forebear.weights.readers.keras.hdf5_bytes import find_hdf5
from forebear.weights.readers.keras.keras import WEIGHTS_MEMBER, KerasArrays, open_keras_archive
from forebear.weights.readers.mxnet.mxnet_file import MxnetArrays, is_mxnet
from forebear.weights.readers.npz import NpzArrays
from forebear.weights.readers.onnx.onnx_file import OnnxArrays, is_onnx
from forebear.weights.readers.pickled_arrays import PickledArrays
from forebear.weights.readers.safetensors_file import SafetensorsArrays, is_safetensors, open_index
from forebear.weights.readers.tensorflow.open import is_tensorflow, open_tensorflow
from forebear.weights.readers.tensorflow.saved_model import is_saved_model, open_saved_model
from forebear.weights.readers.torch.state_dict import TorchArrays, is_legacy
from forebear.weights.readers.torch7.torch7_file import Torch7Arrays, is_torch7
from forebear.weights.readers.zip_archive import open_archive

_EXPECTED = (
    "a TensorFlow checkpoint or SavedModel, Keras .h5, .weights.h5 or .keras, torch state dict, "
    "safetensors, .npz, ONNX graph, Caffe model, Torch7, Flax or MXNet file, a pickle of numpy "
    "arrays, or a folder from the Hugging Face Hub"
)
_CHECK = "Check the path."
# Other files that users pass by mistake, by their first bytes.
_STRANGERS = {
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ\0": "an xz archive",
    b"\x28\xb5\x2f\xfd": "a zstd archive",
    b"\x93NUMPY": "a single .npy array",
    b"<": "a web page or XML",
    b"version https://git-lfs": "a git-lfs pointer instead of the file",
}


def open_arrays(path: Path) -> Arrays:
    """Opens a checkpoint of any format that forebear reads. Nothing in it is ever executed.

    Args:
        path: A file, the prefix of a TensorFlow checkpoint in several files, a folder of the Hub,
            a SavedModel, or a folder with one TensorFlow checkpoint.

    Raises:
        WeightsError: The file is missing, empty, damaged or malicious, or it is not a checkpoint.
            The one-line message names the file.
    """
    with reading(path, _EXPECTED):
        if is_tensorflow(path):
            return open_tensorflow(path)
        if path.is_dir():
            return _open_folder(path)
        if not path.is_file():
            raise refused(path, "no such file", _EXPECTED, _CHECK)
        return _open_file(path)


def _open_folder(path: Path) -> Arrays:
    if is_hub_folder(path):
        return HubArrays(path)
    if is_saved_model(path):
        return open_saved_model(path)
    files = (file for file in path.iterdir() if file.is_file() and ".data-" not in file.name)
    found = sorted(file for file in files if is_tensorflow(file))
    if len(found) == 1:
        return open_tensorflow(found[0])
    if not found and (kind := foreign_folder(path)) is not None:
        raise _not_read(path, kind)
    if not found:
        what = "this folder has neither weights with the Hub's names nor a TensorFlow checkpoint"
        raise refused(path, what, _EXPECTED, _CHECK)
    names = truncated(", ".join(file.name for file in found))
    what = f"this folder has {len(found)} checkpoints, {names}"
    raise refused(path, what, "a folder with one checkpoint", "Pass the path of one checkpoint.")


def _open_file(path: Path) -> Arrays:
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(512)
    if not size:
        raise refused(path, "this file is empty", _EXPECTED, "Download it again.")
    if start.startswith(b"PK\3\4"):
        return _open_zip(path)
    if is_legacy(start):
        return TorchArrays(path)
    if is_safetensors(start, size):
        return SafetensorsArrays(path)
    if start.startswith(b"\x80"):  # a pickle of protocol 2 or later
        return PickledArrays(path)
    if find_hdf5(path) is not None:
        return KerasArrays(path)
    if is_caffe(start):
        return CaffeArrays(path)
    if is_torch7(start):
        return Torch7Arrays(path)
    if is_mxnet(start):
        return MxnetArrays(path)
    if is_flax(start):
        return FlaxArrays(path)
    if (kind := foreign_file(path, start)) is not None:
        raise _not_read(path, kind)
    if start.lstrip().startswith(b"{"):
        return open_index(path)
    if is_onnx(start):
        return OnnxArrays(path)
    raise refused(path, _looks_like(start), _EXPECTED, _CHECK)


def _open_zip(path: Path) -> Arrays:
    with open_archive(path) as archive:
        names = archive.namelist()
    if WEIGHTS_MEMBER in names:
        return open_keras_archive(path)
    if any(name.endswith("/data.pkl") for name in names):
        return TorchArrays(path)
    if names and all(name.endswith(".npy") for name in names):
        return NpzArrays(path)
    listed = ", ".join(names[:3]) or "nothing"
    remedy = "Unpack it if it contains one of these."
    raise refused(path, f"this is a zip archive of {truncated(listed)}", _EXPECTED, remedy)


def _not_read(path: Path, kind: Foreign) -> WeightsError:
    return refused(path, f"this is {kind.what}", _EXPECTED, kind.remedy)


def _looks_like(start: bytes) -> str:
    for stranger, words in _STRANGERS.items():
        if start.startswith(stranger):
            return f"this is {words}"
    if start[257:262] == b"ustar":
        return "this is a tar archive"
    return f"this is a file of unknown format that starts with {truncated(start[:16])}"
