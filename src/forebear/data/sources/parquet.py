"""Images in Parquet files, in the layout of Hugging Face's `datasets`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forebear.data.dataset import Dataset, EncodedImages
from forebear.data.groups import Groups, grouped
from forebear.data.sources.data_room import data_room
from forebear.data.sources.group_by import is_pattern
from forebear.data.sources.label_checks import (
    checked_classes,
    checked_labels,
    numbered_classes,
)
from forebear.data.sources.optional_imports import extra
from forebear.data.sources.part_names import Part
from forebear.data.sources.read_options import DEFAULTS, ReadOptions
from forebear.data.sources.split import given, split_validation
from forebear.errors import DataError, near_misses
from forebear.limits import ROWS, TEXT_BYTES
from forebear.text import printable, truncated
from forebear.untrusted import opened, parse_json

_ROWS = 16  # per piece; a repeated value of a dictionary is unpacked as often
_MOST_PARTS = 1_000_000  # entries of a list in the footer

SIDE = 224  # pixels
VALIDATION_FRACTION = 0.15  # fraction of each class for validation, if there is no validation file
VALIDATION = ("val", "test")  # name prefixes, in order of preference; "val" includes validation


def read_parquet(path: Path, spec: str, *, options: ReadOptions = DEFAULTS) -> Dataset:
    """Reads the columns `image` (encoded bytes, or {bytes, path}) and `label`.

    Labels are integers or strings. Class names come from the metadata of `datasets` if present.
    Otherwise they are the labels themselves: strings sorted by their bytes, or integers.

    Args:
        path: A file, or a folder with train*.parquet and val*.parquet or test*.parquet. Without a
            validation file, 15 % of each class are used for validation.
        spec: The spec given to `read_data`.
        options: `group_by` names a column of integers or strings.

    Raises:
        DataError: A file or column is missing, or a label has no class.
    """
    train_files, val_files = _files(path)
    by = _group_column(options.group_by)
    tables = [_Table(file, by) for file in train_files]
    classes = _classes(tables)
    train = _images(tables, classes)
    val_tables = [_Table(file, by) for file in val_files]
    groups = _groups(by, {"train": tables, "val": val_tables})
    if not val_files:
        return split_validation(
            train,
            fraction=VALIDATION_FRACTION,
            spec=spec,
            classes=classes,
            side=SIDE,
            groups=groups.get("train"),
        )
    val = _images(val_tables, classes)
    return given(
        train,
        val,
        spec=spec,
        classes=classes,
        side=SIDE,
        groups=groups,
        split=f"given by the files {train_files[0].name} and {val_files[0].name}"
        + (", ..." if len(train_files) + len(val_files) > 2 else ""),
    )


def _group_column(group_by: str | None) -> str | None:
    if group_by is not None and is_pattern(group_by):
        raise DataError(
            f"--group-by {printable(group_by)}: images in Parquet files have no paths. Expected "
            "the name of a column. Pass one."
        )
    return group_by


class _Table:
    """The image, label and group columns of one file, with their types checked."""

    def __init__(self, file: Path, group: str | None) -> None:
        self.file, self._group = file, group
        self.shown = printable(file)
        extra("pyarrow", "pyarrow")  # refused by name if it is missing
        with _reading(self.shown):
            self._load()

    def _load(self) -> None:
        columns = ["image", "label"] + ([] if self._group is None else [self._group])
        batches, schema = _read(self.file, self.shown, columns)
        table = extra("pyarrow", "pyarrow").Table.from_batches(batches) if batches else None
        if table is None or not table.num_rows:
            raise DataError(f"{self.shown}: no rows. Expected images. Write the file again.")
        self.images: list[object] = self._images(table.column("image"))
        self.labels: NDArray[Any] = self._words(table.column("label"), "label")
        self.groups: list[str] = []
        if self._group is not None:
            self.groups = [str(one) for one in self._words(table.column(self._group), self._group)]
        self.names = _label_names(schema.metadata or {})

    def _images(self, column: Any) -> list[object]:
        types = extra("pyarrow", "pyarrow").types
        if types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0:
            column = extra("pyarrow.compute", "pyarrow").struct_field(column, "bytes")
        elif not (types.is_binary(column.type) or types.is_large_binary(column.type)):
            raise DataError(
                f"{self.shown}: column image is {column.type}. Expected encoded images as "
                "binary, or as struct<bytes, path>. Store the bytes of the image files."
            )
        images: list[object] = column.to_pylist()
        if None in images:
            raise DataError(
                f"{self.shown}: column image is empty in row {images.index(None)}. Expected the "
                "bytes of an image in each row. Embed the images, or drop the row."
            )
        return images

    def _words(self, column: Any, name: str) -> NDArray[Any]:
        """Returns the labels or groups: integers or strings."""
        types = extra("pyarrow", "pyarrow").types
        if not (types.is_integer(column.type) or types.is_string(column.type)) or column.null_count:
            raise DataError(
                f"{self.shown}: column {printable(name)} is {column.type} with "
                f"{column.null_count} empty rows. Expected an integer or a string in each row. "
                "Convert it, or drop the empty rows."
            )
        words: NDArray[Any] = column.to_numpy()
        return words


def _files(path: Path) -> tuple[list[Path], list[Path]]:
    """Returns the training files and the validation files."""
    if not path.is_dir():
        return [path], []
    train = sorted(path.glob("train*.parquet"))
    if not train:
        raise DataError(
            f"{printable(str(path))}: no train*.parquet inside. Expected train*.parquet and "
            "val*.parquet or test*.parquet. Rename the files, or pass a single file."
        )
    parts = (sorted(path.glob(f"{part}*.parquet")) for part in VALIDATION)
    return train, next(filter(None, parts), [])


def _read(file: Path, shown: str, columns: list[str]) -> tuple[list[Any], Any]:
    """Returns the batches of the columns, and the schema.

    Raises:
        DataError: The file lacks a column, or unpacks to more than fits in memory.
    """
    parquet = extra("pyarrow.parquet", "pyarrow")
    with (
        opened(file) as raw,
        parquet.ParquetFile(
            raw,
            thrift_string_size_limit=TEXT_BYTES,
            thrift_container_size_limit=_MOST_PARTS,
        ) as table,
    ):
        _check_columns(table.schema_arrow.names, shown, columns)
        if table.metadata.num_rows > ROWS:
            raise DataError(
                f"{shown}: {table.metadata.num_rows:,} rows. Expected at most {ROWS:,}. "
                "Split the file."
            )
        return list(_batches(table, shown, columns)), table.schema_arrow


@contextmanager
def _reading(shown: str) -> Iterator[None]:
    """Turns whatever pyarrow raises for a damaged file into an error of one line."""
    try:
        yield
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(
            f"{shown}: no such file. Expected a Parquet file. Check the path."
        ) from None
    except Exception as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(
            f"{shown}: cannot be read ({truncated(why) or type(error).__name__}). Expected a "
            "Parquet file. Download or write it again."
        ) from error


def _batches(table: Any, shown: str, columns: list[str]) -> Iterator[Any]:
    """Yields the rows in pieces, and stops when they no longer fit in memory."""
    most, taken = data_room(), 0
    for batch in table.iter_batches(batch_size=_ROWS, columns=columns):
        taken += batch.nbytes
        if taken > most:
            raise DataError(
                f"{shown}: its images take more than {most:,} bytes. Expected images that fit in "
                "the memory of this machine. Convert them to shards, which are read from the disk."
            )
        yield batch


def _check_columns(names: list[str], shown: str, columns: list[str]) -> None:
    for column in columns:
        if column not in names:
            group = column not in ("image", "label")
            remedy = "Pass another --group-by." if group else "Rename the columns."
            raise DataError(
                f"{shown}: no column {printable(column)}, only {truncated(', '.join(names))}."
                f"{near_misses(column, names)} Expected the columns {' and '.join(columns)}. "
                f"{remedy}"
            )


def _label_names(metadata: dict[bytes, bytes]) -> tuple[str, ...]:
    """Returns the class names of a ClassLabel column, or () if the metadata have none."""
    try:
        features = parse_json(metadata[b"huggingface"])["info"]["features"]
        return tuple(str(name) for name in features["label"]["names"])
    except (KeyError, TypeError, ValueError):
        return ()


def _classes(tables: list[_Table]) -> tuple[str, ...]:
    first = tables[0]
    where = f"{first.shown}: column label"
    if first.names:
        return checked_classes(first.names, where)
    labels = np.concatenate([table.labels for table in tables])
    if labels.dtype == object:
        return checked_classes(sorted(set(labels.tolist()), key=str.encode), where)
    remedy = "use strings, or the ClassLabel of datasets"
    return numbered_classes(labels, where, remedy=remedy)


def _groups(by: str | None, parts: dict[Part, list[_Table]]) -> dict[Part, Groups]:
    if by is None:
        return {}
    return grouped(
        by,
        {
            part: [name for table in tables for name in table.groups]
            for part, tables in parts.items()
            if tables
        },
    )


def _images(tables: list[_Table], classes: tuple[str, ...]) -> EncodedImages:
    images = [image for table in tables for image in table.images if isinstance(image, bytes)]
    names = [f"{table.file} row {row}" for table in tables for row in range(len(table.images))]
    return EncodedImages(
        images, names, np.concatenate([_numbers(table, classes) for table in tables])
    )


def _numbers(table: _Table, classes: tuple[str, ...]) -> NDArray[np.int64]:
    where = f"{table.shown}: column label"
    if table.labels.dtype != object:
        return checked_labels(table.labels, classes, where)
    number = {name: label for label, name in enumerate(classes)}
    unknown = sorted(set(table.labels.tolist()) - number.keys())
    if unknown:
        raise DataError(
            f"{where}: class {printable(unknown[0])} ({len(unknown)} such classes) is not in the "
            f"training files.{near_misses(unknown[0], classes)} Expected one of their "
            f"{len(classes)} classes. Correct the labels or drop the rows."
        )
    return np.array([number[name] for name in table.labels], dtype=np.int64)
