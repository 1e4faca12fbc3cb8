"""Pictures in folders, one folder a class."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from forebear.data.dataset import Dataset, EncodedPictures
from forebear.data.sources.split import fingerprint, held_out
from forebear.errors import DataError
from forebear.text import printable

SIDE = 224  # pixels, as ImageNet's networks are trained
HELD_OUT = 0.15  # share of each class, where the folder has no part for validation
VALIDATION = ("val", "validation", "test")  # the first of these that is there
EXTENSIONS = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp",
    ".ppm", ".pgm", ".pbm", ".pnm",
}  # fmt: skip

_LAYOUT = "a folder for each class, or train and val folders that hold them"


def read_folder(root: Path, spec: str) -> Dataset:
    """The pictures below root/CLASS/, or below root/train/CLASS/ and root/val/CLASS/.

    Classes are in the order of their names' bytes. Hidden files and files that are no pictures by
    their extension are passed over; folders inside a class belong to it. A `validation` or `test`
    folder stands in for `val`. Without one, 15 % of each class are held out.

    Raises:
        DataError: The folder is not laid out like this, or a class is empty.
    """
    parts = _parts(root)
    train = _scan(parts[0])
    if len(parts) == 1:
        pictures = _pictures(train, train.classes)
        return held_out(pictures, share=HELD_OUT, spec=spec, classes=train.classes, side=SIDE)
    val = _scan(parts[1])
    unknown = [name for name in val.classes if name not in train.classes]
    if unknown:
        raise DataError(
            f"{printable(parts[1])}: class {printable(unknown[0])} ({len(unknown)} such classes) "
            f"is not in {printable(parts[0])}. Expected only classes that are trained. "
            "Name the folders alike, or remove this one."
        )
    both = [_pictures(scan, train.classes) for scan in (train, val)]
    keys = [
        [(scan.key(i), label) for i, label in enumerate(part.labels.tolist())]
        for scan, part in zip((train, val), both, strict=True)
    ]
    return Dataset(
        spec=spec,
        classes=train.classes,
        train=both[0],
        val=both[1],
        side=SIDE,
        mirror=True,
        split=f"as given by the folders {parts[0].name} and {parts[1].name}",
        fingerprint=fingerprint(train.classes, *keys),
    )


@dataclass(frozen=True, slots=True)
class _Scan:
    root: Path
    classes: tuple[str, ...]
    paths: list[str]
    sizes: list[int]  # bytes
    owners: list[str]  # the class of each path

    def key(self, index: int) -> bytes:
        below = os.path.relpath(self.paths[index], self.root)
        return os.fsencode(below) + b"\0" + str(self.sizes[index]).encode()


def _parts(root: Path) -> list[Path]:
    """The folders to look for classes in: one, or train and val."""
    if not root.is_dir():
        found = "a file, not a folder" if root.exists() else "no such folder"
        raise DataError(f"{printable(root)}: {found}. Expected {_LAYOUT}. Check the path.")
    folders = _folders(root)
    val = next((name for name in VALIDATION if name in folders), None)
    if "train" in folders and val:
        return [root / "train", root / val]
    # Alone, train is a part without its counterpart; among others it is a class of vehicles.
    return [root / "train"] if folders == ["train"] else [root]


def _scan(root: Path) -> _Scan:
    scan = _Scan(root, tuple(_folders(root)), [], [], [])
    if not scan.classes:
        lying = sum(_is_picture(entry.name) for entry in _entries(root))
        found = f"{lying} pictures lie directly inside" if lying else "no folder inside"
        raise DataError(
            f"{printable(root)}: {found}. Expected {_LAYOUT}. Move each picture into a folder that "
            "bears its class's name."
        )
    for name in scan.classes:
        before = len(scan.paths)
        for path, size in _walk(root / name, frozenset()):
            scan.paths.append(path)
            scan.sizes.append(size)
            scan.owners.append(name)
        if len(scan.paths) == before:
            raise DataError(
                f"{printable(root / name)}: no pictures inside. Expected at least one file that "
                f"ends in {', '.join(sorted(EXTENSIONS))}. Fill the folder or remove it."
            )
    return scan


def _walk(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[tuple[str, int]]:
    """Path and size of each picture; a link to a folder that it lies in is not followed."""
    state = folder.stat()
    here = (state.st_dev, state.st_ino)
    if here in above:
        return
    for entry in _entries(folder):
        if _is_folder(entry):
            yield from _walk(Path(entry.path), above | {here})
        elif _is_picture(entry.name):
            yield entry.path, _size(entry)


def _folders(folder: Path) -> list[str]:
    return [entry.name for entry in _entries(folder) if _is_folder(entry)]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads back to itself
        return False


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            seen = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(
            f"{printable(folder)}: cannot be listed ({error.strerror}). Expected a readable "
            "folder. Check its permissions."
        ) from error
    return sorted(seen, key=lambda entry: os.fsencode(entry.name))


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except OSError as error:
        raise DataError(
            f"{printable(entry.path)}: cannot be read ({error.strerror}). Expected a picture, or "
            "a link to one. Restore it or remove it."
        ) from error


def _is_picture(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in EXTENSIONS  # noqa: PTH122 - a Path a file is slow


def _pictures(scan: _Scan, classes: tuple[str, ...]) -> EncodedPictures:
    number = {name: label for label, name in enumerate(classes)}
    labels = np.array([number[owner] for owner in scan.owners], dtype=np.int64)
    return EncodedPictures(scan.paths, scan.paths, labels)
