"""Images in any folder, with their labels in a CSV file."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from forebear.data.dataset import Dataset, EncodedImages
from forebear.data.sources.label_checks import checked_classes
from forebear.data.sources.part_names import PARTS, Part, part_of
from forebear.data.sources.split import given, split_validation
from forebear.errors import DataError
from forebear.limits import TABLE_BYTES
from forebear.text import printable
from forebear.untrusted import read_bytes

SIDE = 224  # pixels
VALIDATION_FRACTION = 0.15  # of each class, if there is no column with a validation part

# Usual names of the columns, in lower case, in order of preference
_IMAGE = (
    "image", "filename", "file_name", "file", "path", "filepath", "file_path", "image_path",
    "image_name", "image_file", "img", "img_path", "image_id", "imageid", "id_code", "id", "name",
)  # fmt: skip
_LABEL = (
    "label", "class", "class_name", "classname", "label_name", "category", "target", "species",
    "breed", "diagnosis", "y", "class_id", "label_id", "labels", "tag",
)  # fmt: skip
_SPLIT = ("split", "part", "subset", "set", "partition", "data set", "dataset", "is_valid")
_ENDINGS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp")  # left out by some tables
_LAYOUT = "a header, a column of image files and a column of labels"
_SHOWN = 3  # missing images that are named


def read_csv(path: Path, spec: str) -> Dataset:
    """Reads a CSV file with a column of image files and a column of labels.

    The columns are found by their usual names, such as `image` or `filename` and `label` or
    `class`; a file with two columns needs no known name for the label. Paths are relative to the
    folder of the CSV, or to a folder in it, and may lack their extension. A column `split` names
    the part of each image; rows of a test part are never used for validation. Without a validation
    part, 15 % of each class are split off.

    Raises:
        DataError: The file is not such a table, an image has two labels, or no image is found.
    """
    shown = printable(path)
    rows = _rows(path, shown)
    columns = _columns(rows, shown)
    found = _Finder(path.parent)
    files: dict[Part, list[str]] = {part: [] for part in PARTS}
    labels: dict[Part, list[str]] = {part: [] for part in PARTS}
    seen: dict[str, str] = {}
    missing, skipped = [], Counter[str]()
    for number, row in enumerate(rows[1:], 2):
        name, label = row[columns.image].strip(), row[columns.label].strip()
        if not name or not label:
            raise DataError(
                f"{shown}: line {number} has no {'label' if name else 'image'}. Expected both in "
                "each row. Complete the row, or remove it."
            )
        file = found(name)
        if file is None:
            missing.append(name)
            continue
        if file in seen:
            _refuse_two_labels(shown, number, name, seen[file], label)
            skipped["rows that repeat an image"] += 1
            continue
        seen[file] = label
        part = _part(row[columns.split], shown, number) if columns.split is not None else "train"
        files[part].append(file)
        labels[part].append(label)
    _refuse_missing(missing, len(rows) - 1, shown)
    return _dataset(files, labels, spec, shown, dict(skipped))


def table_in(folder: Path) -> Path | None:
    """Returns the only CSV file in a folder that has the columns of images and labels, or None."""
    found = []
    for path in sorted(folder.glob("*.csv")):
        try:
            _columns(_rows(path, printable(path)), printable(path))
        except DataError:
            continue
        found.append(path)
    return found[0] if len(found) == 1 else None


@dataclass(frozen=True, slots=True)
class _Columns:
    image: int
    label: int
    split: int | None


def _rows(path: Path, shown: str) -> list[list[str]]:
    """Returns the rows of the file, the header first; empty ones are left out."""
    try:
        text = read_bytes(path, most=TABLE_BYTES).decode("utf-8-sig")
        first = text.partition("\n")[0]
        delimiter = max(",;\t|", key=first.count)
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if any(row)]
    except FileNotFoundError:
        raise DataError(f"{shown}: no such file. Expected a CSV file. Check the path.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise DataError(
            f"{shown}: cannot be read ({printable(why)}). Expected a CSV file in UTF-8 with "
            f"{_LAYOUT}. Save it again."
        ) from error
    if len(rows) < 2:
        raise DataError(f"{shown}: no rows. Expected {_LAYOUT}. Save it again.")
    for number, row in enumerate(rows, 1):
        if len(row) != len(rows[0]):
            raise DataError(
                f"{shown}: row {number} has {len(row)} columns, the header {len(rows[0])}. "
                f"Expected {_LAYOUT}. Correct the row."
            )
    return rows


def _columns(rows: list[list[str]], shown: str) -> _Columns:
    names = [name.strip().casefold() for name in rows[0]]
    split = _first(_SPLIT, names)
    label = _first(_LABEL, names)
    image = _first(_IMAGE, [name if at != label else "" for at, name in enumerate(names)])
    if image is not None and label is None:
        others = [at for at in range(len(names)) if at not in (image, split)]
        label = others[0] if len(others) == 1 else None
    if image is None or label is None:
        lacking = "images" if image is None else "labels"
        raise DataError(
            f"{shown}: columns {', '.join(map(printable, rows[0][:12]))}, none of them known as "
            f"that of {lacking}. Expected a column image and a column label. Rename the columns."
        )
    return _Columns(image, label, split)


def _first(known: Sequence[str], names: Sequence[str]) -> int | None:
    return next((names.index(name) for name in known if name in names), None)


class _Finder:
    """Finds the file of a name in the table: as a path, or by its name anywhere below a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: dict[str, list[str]] | None = None  # by file name, with and without ending

    def __call__(self, name: str) -> str | None:
        """Returns the path of the file, or None if there is none, or several."""
        for ending in ("", *_ENDINGS):
            path = self._folder / f"{name}{ending}"
            if path.is_file():
                return str(path)
        if self._names is None:
            self._names = self._index()
        wanted = name.replace("\\", "/").strip("/")
        found = [
            path
            for path in self._names.get(wanted.rpartition("/")[2], [])
            if self._matches(path, wanted)
        ]
        return found[0] if len(found) == 1 else None

    @staticmethod
    def _matches(path: str, wanted: str) -> bool:
        below = f"/{path.replace(os.sep, '/')}"
        return below.endswith(f"/{wanted}") or os.path.splitext(below)[0].endswith(f"/{wanted}")  # noqa: PTH122

    def _index(self) -> dict[str, list[str]]:
        names: dict[str, list[str]] = {}
        for path in self._files():
            name = os.path.basename(path)  # noqa: PTH119 - Path objects are slow
            for key in {name, os.path.splitext(name)[0]}:  # noqa: PTH122
                names.setdefault(key, []).append(path)
        return names

    def _files(self) -> Iterator[str]:
        for folder, below, files in os.walk(self._folder):
            below[:] = [name for name in below if not name.startswith(".")]
            for name in files:
                if not name.startswith(".") and not name.lower().endswith(".csv"):
                    yield os.path.join(folder, name)  # noqa: PTH118


def _part(value: str, shown: str, number: int) -> Part:
    known = part_of(value)
    if known is not None:
        return known[0]
    if value.strip().casefold() in ("false", "true"):  # fastai's is_valid
        return "val" if value.strip().casefold() == "true" else "train"
    raise DataError(
        f"{shown}: line {number} is of the part {printable(value)!r}. Expected train, val or test. "
        "Correct the column."
    )


def _refuse_two_labels(shown: str, number: int, name: str, before: str, label: str) -> None:
    if before != label:
        raise DataError(
            f"{shown}: line {number} gives {printable(name)} the label {printable(label)}, an "
            f"earlier line {printable(before)}. Expected one label for each image. "
            "Remove one of the rows."
        )


def _refuse_missing(missing: list[str], count: int, shown: str) -> None:
    if missing:
        named = ", ".join(map(printable, missing[:_SHOWN])) + (", ..." if missing[_SHOWN:] else "")
        raise DataError(
            f"{shown}: {len(missing):,} of {count:,} images are not found below its folder, or "
            f"several files have their names: {named}. Expected paths that are relative to the "
            "CSV. Add the images, or remove the rows."
        )


def _dataset(
    files: dict[Part, list[str]],
    labels: dict[Part, list[str]],
    spec: str,
    shown: str,
    skipped: dict[str, int],
) -> Dataset:
    classes = checked_classes(_classes(labels["train"] or labels["val"] or labels["test"]), shown)
    number = {name: at for at, name in enumerate(classes)}
    unknown = sorted({one for part in labels.values() for one in part} - number.keys())
    if unknown:
        raise DataError(
            f"{shown}: class {printable(unknown[0])} ({len(unknown)} such classes) has no training "
            "images. Expected the classes of the training part. Correct the labels."
        )
    images = {
        part: EncodedImages(
            files[part], files[part], np.array([number[n] for n in labels[part]], dtype=np.int64)
        )
        for part in PARTS
        if files[part]
    }
    if "train" not in images:
        if len(images) > 1:
            raise DataError(
                f"{shown}: no row is of the training part. Expected the parts train, val and test. "
                "Correct the column."
            )
        images = {"train": next(iter(images.values()))}
    if "val" in images:
        data = given(
            images["train"],
            images["val"],
            spec=spec,
            classes=classes,
            side=SIDE,
            split="given by a column of the CSV",
        )
    else:
        data = split_validation(
            images["train"], fraction=VALIDATION_FRACTION, spec=spec, classes=classes, side=SIDE
        )
    origins = dict.fromkeys(images, shown)
    return replace(data, test=images.get("test"), origins=origins, skipped=skipped)


def _classes(labels: list[str]) -> tuple[str, ...]:
    """Returns the different labels: numbers by their value, names by their bytes."""
    found = set(labels)
    if all(label.isascii() and label.isdigit() for label in found):
        return tuple(sorted(found, key=lambda label: (int(label[:18]), label)))
    return tuple(sorted(found, key=lambda label: label.encode(errors="surrogateescape")))
