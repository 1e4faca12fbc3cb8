"""The official CIFAR archives (Krizhevsky 2009), read in place without extracting them."""

from __future__ import annotations

import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from forebear.data.dataset import ArrayImages, Dataset
from forebear.data.sources.label_checks import checked_labels
from forebear.data.sources.split import given
from forebear.errors import DataError
from forebear.safe_unpickle import unpickle_arrays
from forebear.text import printable, truncated
from forebear.untrusted import opened

SIDE = 32  # pixels

_GZIP = b"\x1f\x8b"
_PIXELS = 3 * SIDE * SIDE  # bytes: all red, then all green, then all blue
_MOST_BYTES = 256 * 2**20  # limit for one file in the archive; the largest official one has 155 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class Edition:
    """The file and entry names inside the archives of one data set."""

    archive: str  # prefix of the archives' names
    classes: tuple[str, ...]  # class names, for archives without a file of them
    train: tuple[str, ...]  # batch files; the binary form appends .bin
    test: str  # batch file; the binary form appends .bin
    labels: str  # key of the labels in a pickled batch
    label_bytes: int  # label bytes before the pixels of a binary record; the last one is the class
    names: tuple[str, str]  # the pickled file of class names, and its key
    binary_names: str  # the text file of class names

    @property
    def batches(self) -> tuple[str, ...]:
        """All batch files, in the official order."""
        return (*self.train, self.test)

    @property
    def wanted(self) -> frozenset[str]:
        """The files to look for, in the pickled and the binary form."""
        binary = (f"{batch}.bin" for batch in self.batches)
        return frozenset((*self.batches, *binary, self.names[0], self.binary_names))

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders that can contain the files of an unpacked archive."""
        return (
            ".",
            f"{self.archive}-batches-py",
            f"{self.archive}-batches-bin",
            f"{self.archive}-python",
            f"{self.archive}-binary",
        )

    @property
    def expected(self) -> str:
        """The names of the archives, for error messages."""
        return f"{self.archive}-python.tar.gz or {self.archive}-binary.tar.gz"


def read_cifar(path: Path, spec: str, edition: Edition) -> Dataset:
    """Reads all batches of an archive or its unpacked folder, in the official order.

    Raises:
        DataError: A batch is missing, damaged, or contains objects other than arrays.
    """
    files = _from_folder(path, edition) if path.is_dir() else _from_tar(path, edition)
    suffix = ".bin" if any(name.endswith(".bin") for name in files) else ""
    missing = [batch + suffix for batch in edition.batches if batch + suffix not in files]
    if missing:
        raise DataError(
            f"{printable(path)}: {', '.join(missing)} missing. Expected the training batches and "
            f"the test batch of {edition.expected}. Download the archive again."
        )
    classes = _classes(files, path, edition)
    batches = {}
    for name in edition.batches:
        where, content = f"{printable(path)}: {name}{suffix}", files.pop(name + suffix)
        planes, labels = (_binary if suffix else _pickled)(content, where, edition)
        batches[name] = planes, checked_labels(labels, classes, where)
    return given(
        _images([batches[name] for name in edition.train], f"{path} training"),
        _images([batches[edition.test]], f"{path} test"),
        spec=spec,
        classes=classes,
        side=SIDE,
        split="the official training and test batches",
    )


def _from_folder(path: Path, edition: Edition) -> dict[str, bytes]:
    for folder in (path / name for name in edition.folders):
        found = sorted(
            edition.wanted & {file.name for file in folder.iterdir() if file.is_file()}
            if folder.is_dir()
            else ()
        )
        if found:
            return {name: (folder / name).read_bytes() for name in found}
    return {}


def _from_tar(path: Path, edition: Edition) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    try:
        # By its start, as tarfile tries every method, and 13 bytes of LZMA claim gigabytes.
        with opened(path) as file, tarfile.open(fileobj=file, mode=_mode(file)) as archive:
            for member in archive:
                name = member.name.rpartition("/")[2]
                if name in edition.wanted and member.isreg():
                    files[name] = _member(archive, member, path)
    except FileNotFoundError:
        raise DataError(
            f"{printable(path)}: no such file. Expected {edition.expected}, or the unpacked "
            "folder. Check the path."
        ) from None
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{printable(path)}: cannot be read ({truncated(error)}). Expected a complete "
            f"{edition.expected}. Download the archive again."
        ) from error
    return files


def _mode(file: IO[bytes]) -> Literal["r:", "r:gz"]:
    start = file.read(len(_GZIP))
    file.seek(0)
    return "r:gz" if start == _GZIP else "r:"


def _member(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> bytes:
    if member.size > _MOST_BYTES:
        raise DataError(
            f"{printable(path)}: {printable(member.name)} has {member.size} bytes. Expected about "
            "31 to 155 million. Download the archive from its publisher."
        )
    stream = archive.extractfile(member)
    return stream.read() if stream else b""


def _classes(files: dict[str, bytes], path: Path, edition: Edition) -> tuple[str, ...]:
    file, entry = edition.names
    if file in files:
        where = f"{printable(path)}: {file}"
        listed = _entry(unpickle_arrays(files[file], where), entry, where)
        strings = isinstance(listed, list) and all(isinstance(one, str | bytes) for one in listed)
        names = tuple(_text(name) for name in listed) if strings else ()
    elif edition.binary_names in files:
        where = f"{printable(path)}: {edition.binary_names}"
        names = tuple(files[edition.binary_names].decode("utf-8", "replace").split())
    else:
        return edition.classes
    if len(names) != len(edition.classes):
        raise DataError(
            f"{where}: {len(names)} class names. Expected {len(edition.classes)}. "
            "Download the file again."
        )
    return names


_Batch = tuple[NDArray[np.uint8], NDArray[np.int64]]  # planes [n, 3072] and labels [n]


def _binary(content: bytes, where: str, edition: Edition) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    record = edition.label_bytes + _PIXELS
    if not content or len(content) % record:
        raise DataError(
            f"{where}: {len(content)} bytes. Expected a multiple of {record}, "
            f"{edition.label_bytes} of label and {_PIXELS} of pixels for each image. "
            "Download the archive again."
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, record)
    return records[:, edition.label_bytes :], records[:, edition.label_bytes - 1].astype(np.int64)


def _pickled(
    content: bytes, where: str, edition: Edition
) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    batch = unpickle_arrays(content, where)
    planes, labels = _entry(batch, "data", where), _entry(batch, edition.labels, where)
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
            f"{where}: data {shape}, {edition.labels} {size}. Expected uint8 [n, {_PIXELS}] and a "
            "list of n integers. Download the archive again."
        )
    return planes, np.array(labels)


def _entry(batch: object, name: str, where: str) -> Any:
    """Returns a value of the batch's dict. Keys written by Python 2 are bytes."""
    entries = {_text(key): value for key, value in batch.items()} if isinstance(batch, dict) else {}
    if name not in entries:
        raise DataError(
            f"{where}: no entry {name}. Expected a dict with the entries of CIFAR's batches. "
            "Download the archive again."
        )
    return entries[name]


def _text(name: object) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


def _images(batches: list[_Batch], origin: str) -> ArrayImages:
    planes = np.concatenate([planes for planes, _ in batches]).reshape(-1, 3, SIDE, SIDE)
    pixels = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
    return ArrayImages(pixels, np.concatenate([labels for _, labels in batches]), origin)
