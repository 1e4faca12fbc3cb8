"""Images in any folder, with their labels in a CSV file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from forebear.data.dataset import Dataset, EncodedImages
from forebear.data.groups import Groups, grouped
from forebear.data.labels import NONE
from forebear.data.sources.csv_cells import LabelCells, columns_of, label_cells
from forebear.data.sources.csv_table import CsvTable, read_table
from forebear.data.sources.group_by import groups_of_paths, is_pattern
from forebear.data.sources.label_checks import checked_classes
from forebear.data.sources.part_names import PARTS, Part, part_of
from forebear.data.sources.read_options import DEFAULTS, ReadOptions
from forebear.data.sources.split import given, split_validation
from forebear.errors import DataError
from forebear.text import printable

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
_SHOWN = 3  # images that are named


def read_csv(path: Path, spec: str, *, options: ReadOptions = DEFAULTS) -> Dataset:
    """Reads a CSV file with a column of image files and a column of labels, or several of them.

    The columns are those of the options, or else found by their usual names, such as `image` or
    `filename` and `label` or `class`; a file with two columns needs no known name for the label.
    Paths are relative to the folder of the CSV or to that of the options, or to a folder in it, and
    may lack their extension. A column `split` names the part of each image; rows of a test part are
    never used for validation. Without a validation part, 15 % of each class are split off. Which
    tables have several labels an image is decided as `csv_cells.label_cells` does.

    Raises:
        DataError: The file is not such a table, two rows of an image differ, or an image is not
            found.
    """
    table = read_table(path)
    columns = _columns(table, options)
    folder = path.parent if options.images is None else options.images
    if not folder.is_dir():
        raise DataError(
            f"--images {printable(folder)}: no such folder. Expected the folder that the paths in "
            f"{table.shown} are relative to. Check the path."
        )
    rows, repeats = _rows(table, columns, folder)
    parts = _parts(rows, table.shown)
    groups = _groups(parts, options.group_by, folder)
    classes = checked_classes(_classes(parts["train"], columns.labels, table), table.shown)
    images = _all_images(parts, classes, table.shown, multi=columns.labels.multi)
    data = _dataset(images, classes, groups, spec, table.shown)
    data = replace(data, notes=(*data.notes, *columns.labels.notes))
    return _with_repeats(data, repeats, table.shown)


def table_in(folder: Path) -> Path | None:
    """Returns the only CSV file in a folder that has the columns of images and labels, or None."""
    found = []
    for path in sorted(folder.glob("*.csv")):
        try:
            _columns(read_table(path), DEFAULTS)
        except DataError:
            continue
        found.append(path)
    return found[0] if len(found) == 1 else None


@dataclass(frozen=True, slots=True)
class _Columns:
    image: int
    labels: LabelCells
    split: int | None
    group: int | None


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    name: str  # of the image, as it is written
    file: str
    labels: tuple[str, ...]
    part: Part
    group: str  # "" without a column of groups

    @property
    def label(self) -> str:
        """The labels as one text, for messages; the same for the same labels."""
        return ";".join(sorted(self.labels)) or NONE


def _columns(table: CsvTable, options: ReadOptions) -> _Columns:
    image = label = group = None
    if options.image_column is not None:
        image = table.named(options.image_column, "--image-column")
    if options.label_column is not None:
        label = table.named(options.label_column, "--label-column")
    if options.group_by is not None and not is_pattern(options.group_by):
        group = table.named(options.group_by, "--group-by")
    named: tuple[int, ...] = ()
    if options.label_columns is not None:
        named = columns_of(table, options.label_columns)
    elif label is None:
        label = table.known(_LABEL, without=(image, group))
    split = table.known(_SPLIT, without=(image, label, group, *named))
    if image is None:
        image = table.known(_IMAGE, without=(label, group, *named))
    known = (image, label, split, group)
    others = [at for at in range(len(table.header)) if at not in known]
    labels = None if image is None else label_cells(table, options, label, others)
    if image is None or labels is None:
        lacking = "image" if image is None else "label"
        raise DataError(
            f"{table.shown}: columns {table.columns}, none of them known as that of {lacking}s. "
            "Expected a column image and a column label. Rename the columns, or pass "
            f"--{lacking}-column."
        )
    return _Columns(image, labels, split, group)


def _rows(
    table: CsvTable, columns: _Columns, folder: Path
) -> tuple[list[_Row], list[tuple[_Row, int]]]:
    """Returns the first row of each image, and the rows that repeat one with that one's line.

    Raises:
        DataError: A cell is empty, rows of one image differ, or images are not found.
    """
    find = _Finder(folder)
    seen: dict[str, _Row] = {}
    repeats, missing = [], []
    for cells, line in zip(table.rows, table.lines, strict=True):
        name, labels = cells[columns.image].strip(), columns.labels.read(table, cells, line)
        group = "" if columns.group is None else cells[columns.group].strip()
        _refuse_empty(table, columns, line, name, labels, group)
        file = find(name)
        if file is None:
            missing.append(f"{printable(name)} (line {line})")
            continue
        split = columns.split
        part = "train" if split is None else _part(cells[split], table.shown, line)
        row = _Row(line, name, file, labels, part, group)
        first = seen.setdefault(file, row)
        if first is not row:
            _refuse_contradiction(first, row, table.shown)
            repeats.append((row, first.line))
    if missing:
        named = ", ".join(missing[:_SHOWN]) + (", ..." if missing[_SHOWN:] else "")
        raise DataError(
            f"{table.shown}: {len(missing):,} of {len(table.rows):,} images are not found below "
            f"{printable(folder)}, or several files have their names: {named}. Expected paths that "
            "are relative to that folder. Pass another --images, add the images, or remove the "
            "rows."
        )
    return list(seen.values()), repeats


def _refuse_empty(
    table: CsvTable, columns: _Columns, line: int, image: str, labels: tuple[str, ...], group: str
) -> None:
    label = columns.labels.columns[0] if labels == ("",) else None  # multi-label rows may have none
    for what, at, there in (
        ("image", columns.image, bool(image)),
        ("label", label, False),
        ("group", columns.group, bool(group)),
    ):
        if at is not None and not there:
            column = printable(table.header[at])
            raise DataError(
                f"{table.shown}: line {line} has no {what} in the column {column}. Expected one in "
                "each row. Complete the row, or remove it."
            )


def _refuse_contradiction(first: _Row, row: _Row, shown: str) -> None:
    for what in ("label", "part", "group"):
        before, now = getattr(first, what), getattr(row, what)
        if before != now:
            raise DataError(
                f"{shown}: line {row.line} gives {printable(row.name)} the {what} "
                f"{printable(now)}, line {first.line} the {what} {printable(before)}. Expected one "
                f"{what} for each image. Remove one of the rows."
            )


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


def _parts(rows: list[_Row], shown: str) -> dict[Part, list[_Row]]:
    """Returns the rows of each part that has any; a lone part is all that there is to train on."""
    parts: dict[Part, list[_Row]] = {part: [] for part in PARTS}
    for row in rows:
        parts[row.part].append(row)
    found = {part: own for part, own in parts.items() if own}
    if "train" not in found and len(found) > 1:
        raise DataError(
            f"{shown}: no row is of the training part. Expected the parts train, val and test. "
            "Correct the column."
        )
    return found if "train" in found else {"train": rows}


def _groups(
    parts: Mapping[Part, list[_Row]], group_by: str | None, folder: Path
) -> dict[Part, Groups]:
    if group_by is None:
        return {}
    if is_pattern(group_by):
        paths = {part: [row.file for row in rows] for part, rows in parts.items()}
        return groups_of_paths(group_by, paths, folder)
    return grouped(group_by, {part: [row.group for row in rows] for part, rows in parts.items()})


def _all_images(
    parts: Mapping[Part, list[_Row]], classes: Sequence[str], shown: str, *, multi: bool
) -> dict[Part, EncodedImages]:
    number = {name: at for at, name in enumerate(classes)}
    return {part: _images(rows, number, shown, multi=multi) for part, rows in parts.items()}


def _dataset(
    images: Mapping[Part, EncodedImages],
    classes: tuple[str, ...],
    groups: dict[Part, Groups],
    spec: str,
    shown: str,
) -> Dataset:
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
            images["train"],
            fraction=VALIDATION_FRACTION,
            spec=spec,
            classes=classes,
            side=SIDE,
            groups=groups.get("train"),
        )
    return replace(
        data,
        test=images.get("test"),
        origins=dict.fromkeys(images, shown),
        groups={**groups, **data.groups},
    )


def _images(
    rows: list[_Row], number: Mapping[str, int], shown: str, *, multi: bool
) -> EncodedImages:
    unknown = [(row, label) for row in rows for label in row.labels if label not in number]
    if unknown:
        row, label = unknown[0]
        raise DataError(
            f"{shown}: line {row.line}: class {printable(label)} "
            f"({len({label for _, label in unknown})} such classes) has no training images. "
            "Expected the classes of the training part. Correct the labels."
        )
    files = [row.file for row in rows]
    if not multi:
        labels = np.array([number[row.labels[0]] for row in rows], dtype=np.int64)
        return EncodedImages(files, files, labels)
    matrix = np.zeros((len(rows), len(number)), np.uint8)
    for at, row in enumerate(rows):
        matrix[at, [number[label] for label in row.labels]] = 1
    return EncodedImages(files, files, matrix)


def _with_repeats(data: Dataset, repeats: list[tuple[_Row, int]], shown: str) -> Dataset:
    """Returns the data set with the rows that repeat an image counted, and the first ones named."""
    if not repeats:
        return data
    named = ", ".join(
        f"line {row.line} repeats {printable(row.name)} of line {first}"
        for row, first in repeats[:_SHOWN]
    )
    note = f"{shown}: {named}{', ...' if len(repeats) > _SHOWN else ''}"
    kind = "row that repeats an image" if len(repeats) == 1 else "rows that repeat an image"
    skipped = {**data.skipped, kind: len(repeats)}
    return replace(data, skipped=skipped, notes=(*data.notes, note))


def _classes(rows: list[_Row], cells: LabelCells, table: CsvTable) -> tuple[str, ...]:
    """Returns the labels: columns in their order, numbers by their value, names by their bytes.

    Raises:
        DataError: No training image has any label, or one that has a column.
    """
    found = {label for row in rows for label in row.labels}
    absent = [name for name in cells.names(table) if name not in found] if cells.binary else []
    if not found or absent:
        what = f"the label {printable(absent[0])}" if absent else "any label"
        raise DataError(
            f"{table.shown}: no training image has {what}. Expected one or more. Correct the "
            "labels, or name the columns of labels by --label-columns."
        )
    if cells.binary:
        return tuple(cells.names(table))
    if all(label.isascii() and label.isdigit() for label in found):
        return tuple(sorted(found, key=lambda label: (int(label[:18]), label)))
    return tuple(sorted(found, key=lambda label: label.encode(errors="surrogateescape")))
