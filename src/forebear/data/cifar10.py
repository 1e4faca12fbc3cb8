"""The official CIFAR-10 archives (Krizhevsky 2009), read in place without extracting them."""

from __future__ import annotations

import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forebear.data.decode import printable
from forebear.data.labels import checked_labels
from forebear.data.pictures import ArrayPictures, Data
from forebear.data.split import given
from forebear.data.unpickle import unpickle_arrays
from forebear.errors import DataError

CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
SIDE = 32  # pixels

_PIXELS = 3 * SIDE * SIDE  # bytes: all red, then all green, then all blue
_RECORD = 1 + _PIXELS  # bytes in a binary batch: the label, then the pixels
_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
_BATCHES = (*_TRAIN, "test_batch")
_PYTHON_NAMES, _BINARY_NAMES = "batches.meta", "batches.meta.txt"
_WANTED = {*_BATCHES, *(f"{batch}.bin" for batch in _BATCHES), _PYTHON_NAMES, _BINARY_NAMES}
_FOLDERS = (".", "cifar-10-batches-py", "cifar-10-batches-bin")
_MOST_BYTES = 256 * 2**20  # of one file in the archive; the official ones have 31 MB


def read_cifar10(path: Path, spec: str) -> Data:
    """The five training batches and the test batch, in the official order.

    Args:
        path: cifar-10-python.tar.gz, cifar-10-binary.tar.gz, or the unpacked folder of either.
        spec: As given to `read_data`.

    Raises:
        DataError: A batch is missing or damaged, or holds more than arrays.
    """
    files = _from_folder(path) if path.is_dir() else _from_tar(path)
    suffix = ".bin" if any(name.endswith(".bin") for name in files) else ""
    missing = [batch + suffix for batch in _BATCHES if batch + suffix not in files]
    if missing:
        raise DataError(
            f"{_shown(path)}: {', '.join(missing)} missing. Expected the five training batches "
            "and the test batch of cifar-10-python.tar.gz or cifar-10-binary.tar.gz. "
            "Fetch the archive again."
        )
    classes = _classes(files, path)
    batches = {
        batch: _batch(files.pop(batch + suffix), classes, f"{_shown(path)}: {batch}{suffix}")
        for batch in _BATCHES
    }
    train = _pictures([batches[batch] for batch in _TRAIN], f"{path} training")
    val = _pictures([batches["test_batch"]], f"{path} test")
    return given(
        train,
        val,
        spec=spec,
        classes=classes,
        side=SIDE,
        split="the official training and test batches",
    )


def _from_folder(path: Path) -> dict[str, bytes]:
    for folder in (path / name for name in _FOLDERS):
        found = sorted(
            _WANTED & {file.name for file in folder.iterdir()} if folder.is_dir() else ()
        )
        if found:
            return {name: (folder / name).read_bytes() for name in found}
    return {}


def _from_tar(path: Path) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = member.name.rpartition("/")[2]
                if name in _WANTED and member.isreg():
                    files[name] = _member(archive, member, path)
    except FileNotFoundError:
        raise DataError(
            f"{_shown(path)}: no such file. Expected cifar-10-python.tar.gz, "
            "cifar-10-binary.tar.gz or the unpacked folder. Check the path."
        ) from None
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{_shown(path)}: cannot be read ({error}). Expected cifar-10-python.tar.gz or "
            "cifar-10-binary.tar.gz, whole. Fetch the archive again."
        ) from error
    return files


def _member(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> bytes:
    if member.size > _MOST_BYTES:
        raise DataError(
            f"{_shown(path)}: {printable(member.name)} has {member.size} bytes. Expected about "
            "31 million. Fetch the archive from its publisher."
        )
    stream = archive.extractfile(member)
    return stream.read() if stream else b""


def _classes(files: dict[str, bytes], path: Path) -> tuple[str, ...]:
    if _PYTHON_NAMES in files:
        where = f"{_shown(path)}: {_PYTHON_NAMES}"
        listed = _entry(unpickle_arrays(files[_PYTHON_NAMES], where), "label_names", where)
        names = tuple(_text(name) for name in listed) if isinstance(listed, list) else ()
    elif _BINARY_NAMES in files:
        where = f"{_shown(path)}: {_BINARY_NAMES}"
        names = tuple(files[_BINARY_NAMES].decode("utf-8", "replace").split())
    else:
        return CLASSES
    if len(names) != len(CLASSES):
        raise DataError(f"{where}: {len(names)} class names. Expected 10. Fetch the file again.")
    return names


_Batch = tuple[NDArray[np.uint8], NDArray[np.int64]]  # planes [n, 3072] and labels [n]


def _batch(content: bytes, classes: tuple[str, ...], where: str) -> _Batch:
    planes, labels = (_binary if where.endswith(".bin") else _pickled)(content, where)
    return planes, checked_labels(labels, classes, where)


def _binary(content: bytes, where: str) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    if not content or len(content) % _RECORD:
        raise DataError(
            f"{where}: {len(content)} bytes. Expected a multiple of {_RECORD}, a label and "
            f"{_PIXELS} pixel values for each picture. Fetch the archive again."
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, _RECORD)
    return records[:, 1:], records[:, 0].astype(np.int64)


def _pickled(content: bytes, where: str) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    batch = unpickle_arrays(content, where)
    planes, labels = _entry(batch, "data", where), _entry(batch, "labels", where)
    if not (
        isinstance(planes, np.ndarray)
        and planes.dtype == np.uint8
        and planes.ndim == 2
        and planes.shape[1] == _PIXELS
        and isinstance(labels, list)
        and all(isinstance(label, int) for label in labels)
        and len(labels) == len(planes) > 0
    ):
        shape = list(planes.shape) if isinstance(planes, np.ndarray) else type(planes).__name__
        size = len(labels) if isinstance(labels, list) else type(labels).__name__
        raise DataError(
            f"{where}: data {shape}, labels {size}. Expected uint8 [n, {_PIXELS}] and a list of n "
            "integers. Fetch the archive again."
        )
    return planes, np.array(labels)


def _entry(batch: object, name: str, where: str) -> Any:
    """A value of the batch's dict, whose keys are bytes when Python 2 wrote them."""
    entries = {_text(key): value for key, value in batch.items()} if isinstance(batch, dict) else {}
    if name not in entries:
        raise DataError(
            f"{where}: no entry {name}. Expected a dict with the entries of CIFAR-10's batches. "
            "Fetch the archive again."
        )
    return entries[name]


def _text(name: object) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


def _pictures(batches: list[_Batch], origin: str) -> ArrayPictures:
    planes = np.concatenate([planes for planes, _ in batches]).reshape(-1, 3, SIDE, SIDE)
    pixels = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
    return ArrayPictures(pixels, np.concatenate([labels for _, labels in batches]), origin)


def _shown(path: Path) -> str:
    return printable(str(path))
