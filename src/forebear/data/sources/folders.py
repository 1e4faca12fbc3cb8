"""Images in folders, one folder per class. `layout` recognises how the folders are nested."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from forebear.data.dataset import Dataset, EncodedImages
from forebear.data.groups import Groups
from forebear.data.images.sniff import START, image_format, what_is
from forebear.data.sources.csv_labels import read_csv, table_in
from forebear.data.sources.group_by import groups_of_paths, is_pattern
from forebear.data.sources.label_checks import checked_classes
from forebear.data.sources.layout import (
    EXTENSIONS,
    LAYOUT,
    Layout,
    entries,
    has_extension,
    is_folder,
    is_output,
    loose_images,
    recognise,
)
from forebear.data.sources.part_names import Part
from forebear.data.sources.read_options import DEFAULTS, ReadOptions
from forebear.data.sources.split import given, split_validation
from forebear.errors import DataError, near_misses
from forebear.text import printable
from forebear.untrusted import kind_of, opened

SIDE = 224  # pixels, the usual training size of ImageNet networks
VALIDATION_FRACTION = 0.15  # of each class, if there is no validation folder
_NAMED = ("pipe", "device", "socket", "special file", "broken link", "unreadable")
_MOST_NAMED = 5  # such files


def read_folder(root: Path, spec: str, *, options: ReadOptions = DEFAULTS) -> Dataset:
    """Reads the images of a folder in one of the layouts of `forebear.data.sources.layout`.

    Classes are sorted by the bytes of their names. Images in subfolders of a class folder belong
    to the class. A file is an image if its name ends as those of images do, or if its content says
    so; other files are counted in `Dataset.skipped`. Hidden files are ignored. Without a validation
    folder, 15 % of each class are split off. A test folder is never used for validation.
    Groups are read off the paths.

    Raises:
        DataError: The folder has another layout, a class is empty, or an image has no group.
    """
    layout = recognise(root)
    if len(layout.parts.get("train", ())) < 2:  # the labels may be in a table
        table = table_in(root)
        if table is not None:
            return read_csv(table, spec, options=options)
    if not layout.parts.get("train"):
        raise _no_classes(layout)
    scans = {part: _scan(classes) for part, classes in layout.parts.items()}
    train = scans["train"]
    classes = checked_classes(train.classes, printable(root))
    images = {part: _images(scan, classes, part) for part, scan in scans.items() if part != "test"}
    test, notes = _test(layout, scans, classes)
    used = {part: scan.paths for part, scan in scans.items() if part != "test" or test is not None}
    groups = _groups(options.group_by, used, root)
    if "val" in images:
        data = given(
            images["train"],
            images["val"],
            spec=spec,
            classes=classes,
            side=SIDE,
            split=f"given by the folders {layout.origins['train'].strip('/') or '.'} and "
            f"{layout.origins['val'].strip('/')}",
        )
    else:
        data = split_validation(
            images["train"],
            fraction=VALIDATION_FRACTION,
            spec=spec,
            classes=classes,
            side=SIDE,
            groups=groups.get("train"),
        )
    notes += [line for scan in scans.values() for line in scan.odd][:_MOST_NAMED]
    skipped = sum((scan.skipped for scan in scans.values()), Counter[str]())
    loose = sum(_loose(folder) for folder in {root, *(_above(layout))})
    if loose:
        skipped["outside of class folders"] += loose
    return replace(
        data,
        test=test,
        origins=layout.origins,
        skipped=dict(skipped.most_common()),
        notes=(*layout.notes, *notes),
        groups={**groups, **data.groups},
    )


def _groups(group_by: str | None, paths: dict[Part, list[str]], root: Path) -> dict[Part, Groups]:
    if group_by is None:
        return {}
    if not is_pattern(group_by):
        raise DataError(
            f"--group-by {printable(group_by)}: a folder of images has no columns. Expected a "
            "pattern of paths with {group}, such as '{group}_*.jpg'. Pass one, or list the images "
            "and the column in a CSV and pass csv:FILE."
        )
    return groups_of_paths(group_by, paths, root)


def images_below(folder: Path) -> Iterator[str]:
    """Yields the paths of the images in a folder and in the folders in it, in a fixed order.

    Raises:
        DataError: A folder cannot be listed.
    """
    return _walk(folder, frozenset(), Counter(), [])


@dataclass(frozen=True, slots=True)
class _Scan:
    classes: tuple[str, ...]
    folders: tuple[Path, ...]  # of the classes
    paths: list[str] = field(default_factory=list)
    owners: list[str] = field(default_factory=list)  # the class of each path
    skipped: Counter[str] = field(default_factory=Counter)  # files that are no images, by reason
    odd: list[str] = field(default_factory=list)  # of these, a line for each that is no file


def _scan(classes: list[tuple[str, Path]]) -> _Scan:
    scan = _Scan(tuple(name for name, _ in classes), tuple(folder for _, folder in classes))
    for name, folder in classes:
        skipped = scan.skipped["NumPy array"]
        paths = list(_walk(folder, frozenset(), scan.skipped, scan.odd))
        if not paths and (paths := _arrays(folder)):
            scan.skipped["NumPy array"] = skipped
        scan.paths.extend(paths)
        scan.owners.extend([name] * len(paths))
        if not paths:
            raise DataError(
                f"{printable(folder)}: no images inside. Expected at least one file that ends in "
                f"{', '.join(sorted(EXTENSIONS))}, or whose content is that of an image. "
                "Add images or remove the folder."
            )
    return scan


def _arrays(folder: Path) -> list[str]:
    """Returns the .npy files of a folder, which are its images if it has no others."""
    return sorted(str(path) for path in folder.rglob("*.npy") if path.is_file())


def _walk(
    folder: Path, above: frozenset[tuple[int, int]], skipped: Counter[str], odd: list[str]
) -> Iterator[str]:
    """Yields the path of each image. Links to a parent folder are not followed."""
    state = folder.stat()
    here = (state.st_dev, state.st_ino)
    if here in above:
        return
    for entry in entries(folder):
        if is_folder(entry):
            if is_output(Path(entry.path)):
                skipped["folder with the outputs of training runs"] += 1
            else:
                yield from _walk(Path(entry.path), above | {here}, skipped, odd)
            continue
        reason = _why_not(entry)
        if reason is None:
            yield entry.path
        else:
            skipped[reason] += 1
            if reason in _NAMED:
                odd.append(f"{printable(entry.path)} is skipped: {reason}")


def _why_not(entry: os.DirEntry[str]) -> str | None:
    """Returns why a file is no image; None if it may be one.

    A broken link with the extension of an image counts as an image that cannot be read.
    """
    try:
        mode = entry.stat().st_mode
    except OSError:
        return None if has_extension(entry.name) else "broken link"
    if not stat.S_ISREG(mode):
        return kind_of(mode).removeprefix("a ")
    if has_extension(entry.name):
        return None
    try:
        with opened(Path(entry.path)) as file:
            start = file.read(START)
    except OSError:
        return "unreadable"
    if image_format(start) is not None:
        return None
    known = what_is(start)
    if known != "unknown":
        return known
    ending = os.path.splitext(entry.name)[1]  # noqa: PTH122 - Path objects are slow
    return printable(ending) if 1 < len(ending) <= 12 else "without ending that are no images"


def _images(scan: _Scan, classes: tuple[str, ...], part: Part) -> EncodedImages:
    number = {name: label for label, name in enumerate(classes)}
    unknown = [name for name in scan.classes if name not in number]
    if unknown:
        where = scan.folders[scan.classes.index(unknown[0])].parent
        raise DataError(
            f"{printable(where)}: class {printable(unknown[0])} ({len(unknown)} such classes) is "
            f"not in the training folder.{near_misses(unknown[0], classes)} Expected only its "
            f"{len(classes)} classes. Rename the folder, or remove it."
        )
    labels = np.array([number[owner] for owner in scan.owners], dtype=np.int64)
    return EncodedImages(scan.paths, scan.paths, labels)


def _test(
    layout: Layout, scans: dict[Part, _Scan], classes: tuple[str, ...]
) -> tuple[EncodedImages | None, list[str]]:
    """Returns the images of the test part, and notes about parts that cannot be used."""
    notes = []
    for part, folder in layout.unlabelled.items():
        count = sum(1 for _ in _walk(folder, frozenset(), Counter(), []))
        notes.append(
            f"{layout.origins[part]} is not used: its {count:,} images are in no class folders"
        )
    scan = scans.get("test")
    if scan is None:
        return None, notes
    unknown = [name for name in scan.classes if name not in classes]
    if unknown:
        notes.append(
            f"{layout.origins['test']} is not used: its class {printable(unknown[0])} "
            f"({len(unknown)} such classes) is not in the training folder"
        )
        return None, notes
    return _images(scan, classes, "test"), notes


def _above(layout: Layout) -> Iterator[Path]:
    """Yields the folders that contain the class folders."""
    for classes in layout.parts.values():
        for _, folder in classes[:1]:
            yield folder.parent


def _loose(folder: Path) -> int:
    return sum(1 for _ in loose_images(folder))


def _no_classes(layout: Layout) -> DataError:
    folder = layout.unlabelled.get("train", layout.root)
    loose = _loose(folder)
    found = f"{loose:,} images outside of class folders" if loose else "no folder inside"
    archives = [
        entry.name
        for entry in entries(folder)
        if entry.name.lower().endswith((".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar"))
    ]
    if archives and not loose:
        return DataError(
            f"{printable(folder)}: no folder inside, but {printable(archives[0])}. Expected "
            f"{LAYOUT}. Unpack the archive first."
        )
    return DataError(
        f"{printable(folder)}: {found}. Expected {LAYOUT}. Move each image into a folder that is "
        "named after its class, or list images and labels in a CSV and pass csv:FILE."
    )
