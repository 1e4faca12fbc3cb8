"""Image data sets of the Hugging Face Hub or a local folder, loaded by the `datasets` library."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forebear.data.dataset import Dataset, EncodedImages
from forebear.data.sources.label_checks import checked_labels, numbered_classes
from forebear.data.sources.optional_imports import extra
from forebear.data.sources.split import given, split_validation
from forebear.errors import DataError
from forebear.text import printable

SIDE = 224  # pixels
VALIDATION_FRACTION = (
    0.15  # fraction of each class for validation, if the data set has no validation split
)
OLDEST = (5, 2)  # oldest `datasets` version that is known not to run scripts or pickles of the data
VALIDATION = ("validation", "val", "valid", "dev", "test")  # in order of preference
LABELS = ("label", "labels", "fine_label")  # in order of preference, if several columns are labels


def read_hub(path: Path, spec: str) -> Dataset:
    """Reads a data set of the Hub: hub:NAME, hub:USER/NAME or hub:USER/NAME/CONFIG.

    If the path is a local folder, it is read instead. It can be the output of `save_to_disk`, or
    contain images or Parquet files that `load_dataset` accepts. With HF_HUB_OFFLINE=1, only the
    cache of the library is used. The image column and the class label are found by their types.

    Raises:
        DataError: The data set cannot be loaded, or has no such columns; or `datasets` is missing,
            or so old that it may run code that comes with a data set.
    """
    library = _library()
    parts, shown = _load(library, path), printable(path.as_posix())
    train_name, val_name = _names(parts, shown)
    train, classes = _images(parts[train_name], f"{shown} {train_name}", library, None)
    if val_name is None:
        return split_validation(
            train, fraction=VALIDATION_FRACTION, spec=spec, classes=classes, side=SIDE
        )
    val, _ = _images(parts[val_name], f"{shown} {val_name}", library, classes)
    return given(
        train,
        val,
        spec=spec,
        classes=classes,
        side=SIDE,
        split=f"given by the splits {train_name} and {val_name}",
    )


def _library() -> Any:
    library = extra("datasets", "datasets", group="datasets")
    if tuple(int(number) for number in re.findall(r"\d+", library.__version__)[:2]) < OLDEST:
        raise DataError(
            f"datasets {library.__version__}: can run code that comes with a data set. Expected "
            f"{OLDEST[0]}.{OLDEST[1]} or newer. Run: pip install --upgrade 'forebear[datasets]'"
        )
    return library


def _load(library: Any, path: Path) -> Any:
    """Returns the splits by name."""
    failed: Exception | None = None
    for name, config in _candidates(path):
        try:
            if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
                loaded = library.load_from_disk(str(path))
            else:
                loaded = library.load_dataset(name, config)
        except Exception as error:  # of the network, the files or pyarrow
            failed = failed or error
        else:
            return loaded if isinstance(loaded, dict) else {"train": loaded}
    reason = printable(str(failed).partition("\n")[0]) or type(failed).__name__
    raise DataError(
        f"{printable(path.as_posix())}: cannot be loaded ({reason}). Expected the name of a data "
        "set on the Hugging Face Hub, as in hub:USER/NAME, or a local folder. Check the name and "
        "the connection; offline, only data sets that were loaded before are available."
    ) from failed


def _candidates(path: Path) -> list[tuple[str, str | None]]:
    """Returns the (data set, configuration) pairs to try; USER/NAME comes before NAME/CONFIG."""
    name = path.as_posix()
    if path.is_dir():
        return [(name, None)]
    pieces = name.split("/")
    if len(pieces) == 2:
        return [(name, None), (pieces[0], pieces[1])]
    if len(pieces) == 3:
        return [("/".join(pieces[:2]), pieces[2])]
    return [(name, None)]


def _names(parts: Any, shown: str) -> tuple[str, str | None]:
    """Returns the names of the training split and of the validation split, if there is one."""
    val = next((name for name in VALIDATION if name in parts), None)
    if "train" in parts:
        return "train", val
    if len(parts) == 1:
        return next(iter(parts)), None
    raise DataError(
        f"{shown}: splits {', '.join(map(printable, parts))}. Expected one called train. "
        "Save the training split with save_to_disk, and pass that folder."
    )


def _images(
    part: Any, where: str, library: Any, classes: tuple[str, ...] | None
) -> tuple[EncodedImages, tuple[str, ...]]:
    """Returns the images of a split, and `classes` or, if None, the classes of the split."""
    image, label = _columns(part, where, library)
    if not len(part):
        raise DataError(f"{where}: no rows. Expected images. Choose another data set.")
    labels, found = _labels(part, label, f"{where}: column {label}", classes)
    encoded = part.select_columns([image]).cast_column(image, library.Image(decode=False))
    images = EncodedImages(_Encoded(encoded, image, where), _Names(where, len(part)), labels)
    return images, found


def _columns(part: Any, where: str, library: Any) -> tuple[str, str]:
    """Returns the names of the image column and the label column."""
    features = part.features
    images = [name for name, feature in features.items() if isinstance(feature, library.Image)]
    labels = [name for name, feature in features.items() if isinstance(feature, library.ClassLabel)]
    if not labels:
        labels = [name for name in LABELS if name in features]
    chosen = labels if len(labels) == 1 else [name for name in LABELS if name in labels][:1]
    if len(images) != 1 or not chosen:
        columns = ", ".join(
            f"{printable(name)} ({type(f).__name__})" for name, f in features.items()
        )
        raise DataError(
            f"{where}: columns {columns}. Expected one Image column, and one ClassLabel column or "
            f"a column called {LABELS[0]}. Drop or rename columns, save the data with "
            "save_to_disk, and pass that folder."
        )
    return images[0], chosen[0]


def _labels(
    part: Any, column: str, where: str, classes: tuple[str, ...] | None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Returns the class indices [N], and the class names."""
    values = np.asarray(part.select_columns([column]).with_format("arrow")[:][column])
    if np.issubdtype(values.dtype, np.integer):
        if classes is None:
            names = tuple(map(str, getattr(part.features[column], "names", None) or ()))
            classes = names or numbered_classes(values, where, remedy="use a ClassLabel")
        return checked_labels(values, classes, where), classes
    if not all(isinstance(value, str) for value in values.tolist()):
        raise DataError(
            f"{where}: {values.dtype} values, or empty rows. Expected an integer or a string in "
            "each row. Convert the column, or drop the rows."
        )
    if classes is None:
        classes = tuple(sorted(set(values.tolist()), key=str.encode))
    number = {name: label for label, name in enumerate(classes)}
    unknown = sorted(set(values.tolist()) - number.keys())
    if unknown:
        raise DataError(
            f"{where}: class {printable(unknown[0])} ({len(unknown)} such classes) is not in the "
            f"training split. Expected one of its {len(classes)} classes. Drop the rows."
        )
    return np.array([number[name] for name in values], dtype=np.int64), classes


@dataclass(frozen=True, slots=True, eq=False)
class _Encoded:
    """The bytes or the local paths of an image column, read from the library's file on access."""

    part: Any  # datasets.Dataset with only an undecoded image column
    column: str
    where: str

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, index: int, /) -> str | bytes:
        image = self.part[int(index)][self.column] or {}
        encoded: str | bytes | None = image.get("bytes") or image.get("path")
        if encoded is None:
            raise DataError(
                f"{self.where} row {index}: no image. Expected one in each row. Drop the row."
            )
        return encoded


@dataclass(frozen=True, slots=True)
class _Names:
    """The names of the rows of a split."""

    where: str
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int, /) -> str:
        return f"{self.where} row {index}"
