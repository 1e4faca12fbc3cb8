"""Images in folders, one folder per class."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from forebear.data.dataset import Dataset, EncodedImages
from forebear.data.sources.split import fingerprint, split_validation
from forebear.errors import DataError
from forebear.text import printable

SIDE = 224  # pixels, the usual training size of ImageNet networks
VALIDATION_FRACTION = (
    0.15  # fraction of each class for validation, if there is no validation folder
)
VALIDATION = ("val", "validation", "test")  # in order of preference
EXTENSIONS = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp",
    ".ppm", ".pgm", ".pbm", ".pnm",
}  # fmt: skip

_LAYOUT = "one folder per class, or train and val folders that contain one folder per class"


def read_folder(root: Path, spec: str) -> Dataset:
    """Reads the images below root/CLASS/, or below root/train/CLASS/ and root/val/CLASS/.

    Classes are sorted by the bytes of their names. Hidden files and files without an image
    extension are ignored. Images in subfolders of a class folder belong to the class. A
    `validation` or `test` folder can replace `val`. Without any of them, 15 % of each class are
    used for validation.

    Raises:
        DataError: The folder has another layout, or a class is empty.
    """
    parts = _parts(root)
    train = _scan(parts[0])
    if len(parts) == 1:
        images = _images(train, train.classes)
        return split_validation(
            images, fraction=VALIDATION_FRACTION, spec=spec, classes=train.classes, side=SIDE
        )
    val = _scan(parts[1])
    unknown = [name for name in val.classes if name not in train.classes]
    if unknown:
        raise DataError(
            f"{printable(parts[1])}: class {printable(unknown[0])} ({len(unknown)} such classes) "
            f"is not in {printable(parts[0])}. Expected only classes of the training folder. "
            "Rename the folder, or remove it."
        )
    both = [_images(scan, train.classes) for scan in (train, val)]
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
        split=f"given by the folders {parts[0].name} and {parts[1].name}",
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
    """Returns the folders that contain the class folders: one, or train and val."""
    if not root.is_dir():
        found = "a file, not a folder" if root.exists() else "no such folder"
        raise DataError(f"{printable(root)}: {found}. Expected {_LAYOUT}. Check the path.")
    folders = _folders(root)
    val = next((name for name in VALIDATION if name in folders), None)
    if "train" in folders and val:
        return [root / "train", root / val]
    # A single folder train is a training set without a validation set. Next to other folders, train
    # is a class: the vehicle.
    return [root / "train"] if folders == ["train"] else [root]


def _scan(root: Path) -> _Scan:
    scan = _Scan(root, tuple(_folders(root)), [], [], [])
    if not scan.classes:
        loose = sum(_is_image(entry.name) for entry in _entries(root))
        found = f"{loose} images outside of class folders" if loose else "no folder inside"
        raise DataError(
            f"{printable(root)}: {found}. Expected {_LAYOUT}. Move each image into a folder that "
            "is named after its class."
        )
    for name in scan.classes:
        before = len(scan.paths)
        for path, size in _walk(root / name, frozenset()):
            scan.paths.append(path)
            scan.sizes.append(size)
            scan.owners.append(name)
        if len(scan.paths) == before:
            raise DataError(
                f"{printable(root / name)}: no images inside. Expected at least one file that ends "
                f"in {', '.join(sorted(EXTENSIONS))}. Add images or remove the folder."
            )
    return scan


def _walk(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[tuple[str, int]]:
    """Yields path and size in bytes of each image. Links to a parent folder are not followed."""
    state = folder.stat()
    here = (state.st_dev, state.st_ino)
    if here in above:
        return
    for entry in _entries(folder):
        if _is_folder(entry):
            yield from _walk(Path(entry.path), above | {here})
        elif _is_image(entry.name):
            yield entry.path, _size(entry)


def _folders(folder: Path) -> list[str]:
    return [entry.name for entry in _entries(folder) if _is_folder(entry)]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
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
            f"{printable(entry.path)}: cannot be read ({error.strerror}). Expected an image file, "
            "or a link to one. Restore it or remove it."
        ) from error


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in EXTENSIONS  # noqa: PTH122 - Path objects are slow


def _images(scan: _Scan, classes: tuple[str, ...]) -> EncodedImages:
    number = {name: label for label, name in enumerate(classes)}
    labels = np.array([number[owner] for owner in scan.owners], dtype=np.int64)
    return EncodedImages(scan.paths, scan.paths, labels)
