"""Image data sets of the Hugging Face Hub, or of a local folder, through the `datasets` library."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forebear.data.dataset import Dataset, EncodedPictures
from forebear.data.sources.label_checks import checked_labels, numbered_classes
from forebear.data.sources.optional_imports import extra
from forebear.data.sources.split import given, held_out
from forebear.errors import DataError
from forebear.text import printable

SIDE = 224  # pixels
HELD_OUT = 0.15  # share of each class, where the data set has one part only
OLDEST = (5, 2)  # version of `datasets` known to run neither scripts nor pickles of a data set
VALIDATION = ("validation", "val", "valid", "dev", "test")  # the first of these that is there
LABELS = ("label", "labels", "fine_label")  # tried in turn where several columns are class labels


def read_hub(path: Path, spec: str) -> Dataset:
    """A data set by its name on the Hub, as in hub:NAME, hub:USER/NAME or hub:USER/NAME/CONFIG.

    A local folder is read instead where there is one: what `save_to_disk` wrote, or pictures or
    Parquet files as `load_dataset` takes them. With HF_HUB_OFFLINE=1 only the library's own cache
    is used. The image column and the class label are found by their types.

    Raises:
        DataError: The data set cannot be had, or has no such columns. `datasets` is missing or
            too old, and would run code of the data set's own.
    """
    library = _library()
    parts, shown = _load(library, path), printable(path.as_posix())
    train_name, val_name = _names(parts, shown)
    train, classes = _pictures(parts[train_name], f"{shown} {train_name}", library, None)
    if val_name is None:
        return held_out(train, share=HELD_OUT, spec=spec, classes=classes, side=SIDE)
    val, _ = _pictures(parts[val_name], f"{shown} {val_name}", library, classes)
    return given(
        train,
        val,
        spec=spec,
        classes=classes,
        side=SIDE,
        split=f"as given by the parts {train_name} and {val_name}",
    )


def _library() -> Any:
    library = extra("datasets", "datasets", group="datasets")
    if tuple(int(number) for number in re.findall(r"\d+", library.__version__)[:2]) < OLDEST:
        raise DataError(
            f"datasets {library.__version__}: may run code that comes with a data set. Expected "
            f"{OLDEST[0]}.{OLDEST[1]} or newer. Run: pip install --upgrade 'forebear[datasets]'"
        )
    return library


def _load(library: Any, path: Path) -> Any:
    """The parts by their names."""
    failed: Exception | None = None
    for name, config in _candidates(path):
        try:
            if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
                loaded = library.load_from_disk(str(path))
            else:
                loaded = library.load_dataset(name, config)
        except Exception as error:  # from the network, from files, or from pyarrow
            failed = failed or error
        else:
            return loaded if isinstance(loaded, dict) else {"train": loaded}
    reason = printable(str(failed).partition("\n")[0]) or type(failed).__name__
    raise DataError(
        f"{printable(path.as_posix())}: cannot be loaded ({reason}). Expected the name of a data "
        "set on the Hugging Face Hub, as in hub:USER/NAME, or a local folder. Check the name and "
        "the connection; offline only data sets that were loaded before can be had."
    ) from failed


def _candidates(path: Path) -> list[tuple[str, str | None]]:
    """What a name may mean, as (data set, configuration): USER/NAME goes before NAME/CONFIG."""
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
    """The parts to train on and to validate with."""
    val = next((name for name in VALIDATION if name in parts), None)
    if "train" in parts:
        return "train", val
    if len(parts) == 1:
        return next(iter(parts)), None
    raise DataError(
        f"{shown}: parts {', '.join(map(printable, parts))}. Expected one called train. "
        "Save the part to train on with save_to_disk, and pass that folder."
    )


def _pictures(
    part: Any, where: str, library: Any, classes: tuple[str, ...] | None
) -> tuple[EncodedPictures, tuple[str, ...]]:
    """A part's pictures, and its classes where none are given."""
    image, label = _columns(part, where, library)
    if not len(part):
        raise DataError(f"{where}: no rows. Expected pictures. Choose another data set.")
    labels, found = _labels(part, label, f"{where}: column {label}", classes)
    encoded = part.select_columns([image]).cast_column(image, library.Image(decode=False))
    pictures = EncodedPictures(_Encoded(encoded, image, where), _Names(where, len(part)), labels)
    return pictures, found


def _columns(part: Any, where: str, library: Any) -> tuple[str, str]:
    """The image column and the label column."""
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
            f"{where}: columns {columns}. Expected one image column, and a class label or a column "
            f"called {LABELS[0]}. Drop or rename columns, save the data with save_to_disk, and "
            "pass that folder."
        )
    return images[0], chosen[0]


def _labels(
    part: Any, column: str, where: str, classes: tuple[str, ...] | None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Numbers [N], and the classes that they mean."""
    values = np.asarray(part.select_columns([column]).with_format("arrow")[:][column])
    if np.issubdtype(values.dtype, np.integer):
        if classes is None:
            names = tuple(map(str, getattr(part.features[column], "names", None) or ()))
            classes = names or numbered_classes(values, where, remedy="use a ClassLabel")
        return checked_labels(values, classes, where), classes
    if not all(isinstance(value, str) for value in values.tolist()):
        raise DataError(
            f"{where}: {values.dtype} values, or empty rows. Expected integers or strings in each "
            "row. Convert the column, or drop the rows."
        )
    if classes is None:
        classes = tuple(sorted(set(values.tolist()), key=str.encode))
    number = {name: label for label, name in enumerate(classes)}
    unknown = sorted(set(values.tolist()) - number.keys())
    if unknown:
        raise DataError(
            f"{where}: {printable(unknown[0])} ({len(unknown)} such names) is no class that is "
            f"trained. Expected one of the {len(classes)} of the training part. Drop the rows."
        )
    return np.array([number[name] for name in values], dtype=np.int64), classes


@dataclass(frozen=True, slots=True, eq=False)
class _Encoded:
    """The bytes or the local paths of an image column, read from the library's file when asked."""

    part: Any  # datasets.Dataset with an undecoded image column alone
    column: str
    where: str

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, index: int, /) -> str | bytes:
        image = self.part[int(index)][self.column] or {}
        encoded: str | bytes | None = image.get("bytes") or image.get("path")
        if encoded is None:
            raise DataError(
                f"{self.where} row {index}: no picture. Expected one in each row. Drop the row."
            )
        return encoded


@dataclass(frozen=True, slots=True)
class _Names:
    """What the rows of a part are called."""

    where: str
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int, /) -> str:
        return f"{self.where} row {index}"
