"""The table of data kinds, and the function that reads a data spec."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from forebear.data.dataset import Dataset
from forebear.data.sources.cifar10 import read_cifar10
from forebear.data.sources.cifar100 import read_cifar100
from forebear.data.sources.csv_labels import read_csv
from forebear.data.sources.folders import read_folder
from forebear.data.sources.hugging_face import read_hub
from forebear.data.sources.idx import read_idx
from forebear.data.sources.kinds import SPECS, listed_specs
from forebear.data.sources.numpy_arrays import read_digits, read_npz
from forebear.data.sources.parquet import read_parquet
from forebear.data.sources.read_options import (
    DEFAULTS,
    USES,
    ReadOptions,
    refuse_unused,
)
from forebear.data.sources.webdataset import read_shards
from forebear.errors import near_misses
from forebear.files import expanded
from forebear.text import printable

__all__ = ["KINDS", "Dataset", "ReadOptions", "read_data"]

# The readers of all kinds in `SPECS` but digits, which has no path. Those in `USES` take options.
KINDS: dict[str, Callable[..., Dataset]] = {
    "folder": read_folder,
    "csv": read_csv,
    "cifar10": read_cifar10,
    "cifar100": read_cifar100,
    "idx": read_idx,
    "npz": read_npz,
    "parquet": read_parquet,
    "shards": read_shards,
    "hub": read_hub,
}


def read_data(spec: str, options: ReadOptions = DEFAULTS) -> Dataset:
    """Reads the labelled images of a spec: `digits`, or KIND:PATH with a kind of `KINDS`.

    Args:
        spec: Of this form.
        options: Columns, folder and groups. Groups that are in several parts that came with the
            data are not refused here; see `group_by.refuse_shared_groups`.

    Raises:
        ValueError: The spec does not have this form, or its kind of data cannot use an option.
        DataError: The data are missing, damaged, or have another layout.
    """
    kind, _, path = spec.partition(":")
    if spec == "digits" or (kind in KINDS and path):
        refuse_unused(options, spec)
    if spec == "digits":
        return read_digits(spec)
    if kind in KINDS and path:
        taken = {"options": options} if kind in USES else {}
        return KINDS[kind](expanded(path), spec, **taken)
    raise ValueError(
        f"data={spec!r}: {_fault(spec, kind)} Expected {listed_specs()}. "
        "Write the kind, a colon and the path."
    )


def _fault(spec: str, kind: str) -> str:
    if kind == "digits":
        return "digits comes with scikit-learn and takes no path."
    if kind in KINDS:
        return "the path is missing."
    path = expanded(spec)
    if spec and path.exists():
        return f"a path without a kind. Did you mean {_kind_of(path)}:{printable(spec)}?"
    return f"unknown kind of data.{near_misses(kind, SPECS)}"


def _kind_of(path: Path) -> str:
    if path.is_dir():
        held = next((kind for pattern, kind in _INSIDE.items() if any(path.glob(pattern))), None)
        return held or "folder"
    if path.name.startswith("cifar-100"):
        return "cifar100"
    return _SUFFIXES.get(path.suffix, "folder")


_INSIDE = {"*.parquet": "parquet", "*.tar": "shards", "train-images*idx3-ubyte*": "idx"}
_SUFFIXES = {
    ".csv": "csv",
    ".npz": "npz",
    ".parquet": "parquet",
    ".tar": "shards",
    ".gz": "cifar10",
}
