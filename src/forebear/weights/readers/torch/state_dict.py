"""Reads a state dict from torch's .pth, .pt and .th files, always with weights_only=True."""

from __future__ import annotations

import tarfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import ZIP_STORED, ZipFile

import numpy as np
import torch
from torch.torch_version import TorchVersion

from forebear.errors import WeightsError
from forebear.text import truncated
from forebear.weights.readers.base import Array
from forebear.weights.readers.errors import check_names, reading, refused
from forebear.weights.readers.indexed import Listed
from forebear.weights.readers.torch.pickle_scan import MAX_PICKLE, check_pickles
from forebear.weights.readers.zip_archive import open_archive

# Files that torch.save wrote before torch 1.6 start with a pickle of its magic number.
LEGACY_START = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
_LEGACY_PICKLES = 5  # magic number, protocol, system, the object, and the keys of the storages
_EXPECTED = "a state dict that torch.save wrote"
_SAFE = TorchVersion("2.10")  # CVE-2026-24747: before 2.10, weights_only=True was not safe
_WRAPPERS = ("state_dict", "model", "model_ema")
_PREFIXES = ("module.", "backbone.")
_DTYPES: dict[torch.dtype, np.dtype[Any]] = {
    torch.float64: np.dtype(np.float64),
    torch.float32: np.dtype(np.float32),
    torch.float16: np.dtype(np.float16),
    torch.bfloat16: np.dtype(np.float32),  # numpy has no bfloat16, which is exact in float32
    torch.int64: np.dtype(np.int64),
    torch.int32: np.dtype(np.int32),
    torch.int16: np.dtype(np.int16),
    torch.int8: np.dtype(np.int8),
    torch.uint8: np.dtype(np.uint8),
    torch.bool: np.dtype(np.bool_),
}


@dataclass(frozen=True, slots=True)
class _Tensor:
    tensor: torch.Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return _DTYPES[self.tensor.dtype]


class TorchArrays(Listed[_Tensor]):
    """The tensors of a state dict. Common wrappers and prefixes of all names are removed."""

    expected = _EXPECTED

    def __init__(self, path: Path) -> None:
        """Reads the names. Tensors in a zip file stay on disk until they are accessed.

        Raises:
            WeightsError: The file contains something other than named, dense tensors, which the
                message names. Nothing is executed.
        """
        self.path = path
        if TorchVersion(torch.__version__) < _SAFE:
            raise WeightsError(
                f"torch {torch.__version__}: a malicious file can bypass weights_only=True in this "
                f"version. Expected {_SAFE} or later to read {truncated(path)}. Run: pip install "
                "-U torch"
            )
        with path.open("rb") as file:
            legacy = file.read(len(LEGACY_START)) == LEGACY_START
        self.format = "torch legacy pickle" if legacy else "torch zip"
        (_check_legacy if legacy else _check_zip)(path)
        with reading(path, _EXPECTED):
            tensors = _state_dict(path, _load(path, mapped=not legacy))
        self.entries = {name: _Tensor(tensor) for name, tensor in tensors.items()}

    def read(self, name: str, entry: _Tensor) -> Array:
        """Copies a tensor from the file. The copy remains valid without the file."""
        if entry.tensor.dtype == torch.bfloat16:
            return np.ascontiguousarray(entry.tensor.float().numpy())
        return np.array(entry.tensor.numpy(), order="C")

    def close(self) -> None:
        """Closes the file, and forgets all names."""
        self.entries = {}


def _load(path: Path, *, mapped: bool) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if mapped and path.suffix != ".safetensors":  # torch would read it as safetensors
                return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            with path.open("rb") as file:
                return torch.load(file, map_location="cpu", weights_only=True)
        except UnpicklingError as error:  # its message suggests an unsafe load, so it is cut
            said = str(error).rpartition("WeightsUnpickler error: ")[2].strip()
            raise ValueError(said.partition("\n")[0]) from None


def _check_legacy(path: Path) -> None:
    with reading(path, _EXPECTED):
        if tarfile.is_tarfile(path):  # torch would unpack it
            raise refused(path, "it is both a tar archive and a pickle", _EXPECTED)
        with path.open("rb") as file:
            start = file.read(MAX_PICKLE)
    check_pickles(path, start, _LEGACY_PICKLES)


def _check_zip(path: Path) -> None:
    """Checks the pickle, and the CRC-32 of every member, which torch does not verify."""
    with open_archive(path) as archive, reading(path, _EXPECTED):
        names = archive.namelist()
        folder = names[0].partition("/")[0]
        if f"{folder}/constants.pkl" in names:
            raise refused(
                path,
                "it is a TorchScript archive, which is a program",
                _EXPECTED,
                "Save state_dict().",
            )
        if len({name.lower() for name in names}) < len(names):
            raise refused(path, "it has members whose names differ only in case", _EXPECTED)
        pickled = archive.getinfo(f"{folder}/data.pkl")
        if pickled.file_size > MAX_PICKLE:
            raise refused(
                path,
                f"{pickled.filename}: it has {pickled.file_size} bytes",
                f"at most {MAX_PICKLE} bytes",
            )
        _check_members(path, archive)
        check_pickles(path, archive.read(pickled), 1)


def _check_members(path: Path, archive: ZipFile) -> None:
    for member in archive.infolist():
        if member.compress_type != ZIP_STORED or member.file_size != member.compress_size:
            raise refused(path, f"{member.filename}: it is compressed", "uncompressed members")
        if not member.CRC:  # set_crc32_options(False) was used, so there is no CRC-32 to verify
            member.CRC = None  # type: ignore[assignment]
        with archive.open(member) as file:
            while file.read(2**20):  # zipfile verifies the CRC-32 at the end
                pass


def _state_dict(path: Path, loaded: object) -> dict[str, torch.Tensor]:
    for wrapper in _WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
    if not isinstance(loaded, Mapping) or not loaded:
        kind = "an empty dict" if loaded == {} else f"a {type(loaded).__name__}"
        what = f"it holds {kind}, not a state dict"
        raise refused(path, what, _EXPECTED, "Save model.state_dict().")
    size = path.stat().st_size
    total = 0
    for name, tensor in loaded.items():
        _check_tensor(path, name, tensor)
        total += tensor.numel() * tensor.element_size()
        if total > size:
            raise refused(
                path,
                f"{truncated(name)}: with {truncated(list(tensor.shape))} the tensors have {total} "
                "bytes",
                f"at most {size} bytes, the size of the file, with every value stored",
                "Save contiguous tensors.",
            )
    tensors = {str(name): tensor.detach() for name, tensor in loaded.items()}
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    check_names(path, tensors)
    return tensors


def _check_tensor(path: Path, name: object, tensor: object) -> None:
    if not isinstance(name, str):
        what = f"it has a key of type {type(name).__name__}"
        raise refused(path, what, "names as keys", "Save model.state_dict().")
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        raise refused(
            path,
            f"{truncated(name)}: it is a {type(tensor).__name__}",
            "only tensors",
            "Save model.state_dict().",
        )
    assert isinstance(tensor, torch.Tensor)  # for the type checker
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.dtype not in _DTYPES:
        raise refused(
            path,
            f"{truncated(name)}: {tensor.layout}, {tensor.dtype}, on {tensor.device.type}",
            f"dense CPU tensors of one of the types {', '.join(map(str, _DTYPES))}",
            "Save it as a dense float32 tensor.",
        )
