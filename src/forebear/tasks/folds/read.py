"""Reads a finished cross-validation back, to judge images by networks that did not see them."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from forebear.data.dataset import Dataset, Images, joined
from forebear.data.labels import is_multi, keys
from forebear.data.sources.fold_split import pool
from forebear.data.sources.split import digests_of, fingerprint
from forebear.errors import DataError, RunError
from forebear.limits import TABLE_BYTES
from forebear.network.network import Network
from forebear.tasks.folds.job import NOTE, TABLE
from forebear.tasks.folds.out_of_fold import AnyOutOfFold, LabelsOutOfFold, OutOfFold
from forebear.tasks.runs.read import load_run
from forebear.text import one_line, printable, truncated
from forebear.untrusted import read_bytes, read_json

Shares = NDArray[np.float64]
_SUM = 0.01  # the probabilities of the classes are written with 6 digits, and add up to 1


@dataclass(frozen=True, slots=True, eq=False)
class SavedFolds:
    """A finished cross-validation, as its folder has it."""

    folder: Path
    count: int  # number of folds
    data: str  # spec of its data set, for messages
    fingerprint: str  # of the training and the validation images of fold 1
    network: Network  # that of fold 1, in evaluation mode


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """The rows of out_of_fold.csv."""

    paths: list[str]  # [N]
    labels: list[tuple[str, ...]]  # [N], the name of the class, or 0 or 1 for each label
    folds: NDArray[np.int64]  # [N]
    shares: Shares  # [N, K], probabilities; NaN for images that could not be decoded


def is_cross_validation(folder: Path) -> bool:
    """Whether a folder is the --out of a `forebear train --folds`."""
    return (folder / NOTE).is_file()


def read_folds(folder: Path) -> SavedFolds:
    """Opens a finished cross-validation.

    Raises:
        RunError: It is not finished, or its files cannot be read.
    """
    shown = printable(folder)
    try:
        note = read_json(folder / NOTE)
        count, print_, data = note["folds"], note["fingerprint"], note["request"]["data"]
        if type(count) is not int or count < 2 or not isinstance(print_, str):
            raise ValueError(f"folds: {count}")
        finished = "out_of_fold" in note
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{shown}: its {NOTE} cannot be read ({truncated(error)}). Expected that of a "
            "cross-validation. Pass the --out of a forebear train --folds."
        ) from error
    if not finished or not (folder / TABLE).is_file():
        raise RunError(
            f"{shown}: the cross-validation is not finished. Expected {TABLE} in its folder. "
            "Start the same forebear train --folds again, which continues it."
        )
    network = load_run(folder / "fold-1")
    if network.card.metrics.get("fingerprint") != print_:
        raise RunError(
            f"{shown}: its fold-1 was trained on other images than {NOTE} says. Expected the run "
            "that --folds left. Restore it, or train the folds again."
        )
    return SavedFolds(folder, count, truncated(data), print_, network)


def shares_of(saved: SavedFolds, data: Dataset) -> Shares:
    """Returns the out-of-fold probabilities [images, K] of a data set.

    The rows are those of the training images, followed by the validation images. A row is NaN if
    the image was in no fold, as a validation set that came with the data, or was not decoded.

    Args:
        saved: The cross-validation.
        data: As it is read now.

    Raises:
        RunError: The table cannot be read.
        DataError: The data set is another one: the message counts the images that differ.
    """
    images, _ = pool(data)
    digests = digests_of(images)
    table = _read(saved, data)
    rows = _matched(saved, table, images, data)
    _refuse_changed(saved, data, images, digests, table.folds[rows])
    shares = table.shares[rows]
    if data.whole is images:  # the same images in another order; copies share a fold
        numbers = {digest: at for at, digest in enumerate(digests)}
        return shares[[numbers[one] for one in digests_of(joined([data.train, data.val]))]]
    others = len(data.train) + len(data.val) - len(images)
    return np.concatenate([shares, np.full((others, shares.shape[1]), np.nan)])


def _read(saved: SavedFolds, data: Dataset) -> _Table:
    path = saved.folder / TABLE
    paths: list[str] = []
    labels: list[tuple[str, ...]] = []
    folds: list[int] = []
    shares: list[NDArray[np.float64]] = []
    multi, count = data.multi_label, len(data.classes)
    names, values = _columns(multi=multi, count=count)
    try:
        rows = _rows(path)
        header = next(rows, [])
        _check_header(saved, data, header)
        for at, row in enumerate(rows):
            if len(row) != len(header) or row[0] != str(at):
                raise ValueError(f"row {at} is not that of image {at}")
            paths.append(row[1])
            labels.append(tuple(row[names]))
            folds.append(_fold(row[3], saved.count))
            shares.append(_numbers(row[values], at, multi=multi))
    except (OSError, ValueError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise RunError(
            f"{printable(path)}: cannot be read ({truncated(why)}). Expected the table that "
            "forebear train --folds wrote. Start the same command again, which writes it anew."
        ) from error
    return _Table(
        paths, labels, np.array(folds, np.int64), np.array(shares, np.float64).reshape(-1, count)
    )


def _rows(path: Path) -> Iterator[list[str]]:
    text = read_bytes(path, most=TABLE_BYTES).decode("utf-8")
    return csv.reader(io.StringIO(text, newline=""), strict=True)


def _columns(*, multi: bool, count: int) -> tuple[slice, slice]:
    """Returns the columns of the true label, and those of the probabilities."""
    if multi:  # image, path, labels, fold, predicted, then label_*, probability_*, predicted_*
        return slice(5, 5 + count), slice(5 + count, 5 + 2 * count)
    return slice(2, 3), slice(6, 6 + count)  # image, path, label, fold, predicted, probability


def _fold(cell: str, count: int) -> int:
    fold = int(cell)
    if not 1 <= fold <= count:
        raise ValueError(f"fold {cell} of {count}")
    return fold


def _numbers(cells: Sequence[str], at: int, *, multi: bool) -> Shares:
    if not any(cells):
        return np.full(len(cells), np.nan)
    found = np.array([float(cell) for cell in cells], np.float64)
    if not ((found >= 0) & (found <= 1)).all() or (not multi and abs(found.sum() - 1) > _SUM):
        raise ValueError(f"row {at} has no probabilities")
    return found


def _check_header(saved: SavedFolds, data: Dataset, header: list[str]) -> None:
    multi = data.multi_label
    kind: type[AnyOutOfFold] = LabelsOutOfFold if multi else OutOfFold
    none = np.zeros((0, len(data.classes)), np.float32)
    empty = kind(
        classes=data.classes, labels=np.zeros(0, np.int64), folds=np.zeros(0, np.int64), logits=none
    )
    expected = ["image", "path", *empty.header()]
    if header == expected:
        return
    what = "labels" if multi else "classes"
    unknown = [name for name in expected if name.startswith("probability_") and name not in header]
    if unknown:
        raise _other(
            saved, data, f"{len(unknown):,} of its {none.shape[1]:,} {what} are not in {TABLE}"
        )
    if ("labels" in header) != multi:
        form = ("several labels", "one class") if multi else ("one class", "several labels")
        raise _other(saved, data, f"it has {form[0]} an image, and {TABLE} has {form[1]}")
    raise _other(saved, data, f"{TABLE} has other {what}, or has them in another order")


def _matched(saved: SavedFolds, table: _Table, images: Images, data: Dataset) -> NDArray[np.int64]:
    """Returns the row of the table for each image.

    Raises:
        DataError: Names or labels differ.
    """
    names = [one_line(images.name(at)) for at in range(len(images))]
    missing, gone = Counter(names) - Counter(table.paths), Counter(table.paths) - Counter(names)
    if missing or gone:
        faults = [
            f"{found.total():,} of {total:,} images {what}, such as {truncated(min(found))}"
            for found, total, what in (
                (missing, len(names), f"are not in {TABLE}"),
                (gone, len(table.paths), f"of {TABLE} are not in the data"),
            )
            if found
        ]
        raise _other(saved, data, "; ".join(faults))
    places: dict[str, list[int]] = {}
    for at, path in enumerate(table.paths):
        places.setdefault(path, []).append(at)
    turns = {path: iter(found) for path, found in places.items()}
    rows = np.array([next(turns[name]) for name in names], np.int64)
    own = _label_cells(images, data.classes)
    differing = [at for at, row in enumerate(rows) if own[at] != table.labels[row]]
    if differing:
        what = "other labels" if data.multi_label else "another label"
        raise _other(
            saved, data,
            f"{len(differing):,} of {len(names):,} images have {what} now, such as "
            f"{truncated(names[differing[0]])}",
        )  # fmt: skip
    return rows


def _label_cells(images: Images, classes: Sequence[str]) -> list[tuple[str, ...]]:
    if is_multi(images.labels):
        return [tuple(map(str, row)) for row in images.labels.tolist()]
    return [(one_line(classes[label]),) for label in images.labels.tolist()]


def _refuse_changed(
    saved: SavedFolds,
    data: Dataset,
    images: Images,
    digests: Sequence[bytes],
    folds: NDArray[np.int64],
) -> None:
    """Refuses images that have their names and labels, but not their contents."""
    pairs = list(zip(digests, keys(images.labels), strict=True))
    parts = ([pairs[at] for at in np.flatnonzero(own)] for own in (folds != 1, folds == 1))
    if fingerprint(data.classes, *parts) != saved.fingerprint:
        raise _other(saved, data, f"the contents of some of the {len(pairs):,} images have changed")


def _other(saved: SavedFolds, data: Dataset, what: str) -> DataError:
    return DataError(
        f"{printable(data.spec)}: {what}. Expected the data set of the cross-validation "
        f"{printable(saved.folder)}, which is {saved.data}. Pass that data set, or train the folds "
        "of this one."
    )
