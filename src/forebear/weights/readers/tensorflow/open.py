"""TensorFlow checkpoints without TensorFlow: which of the two formats, and its reader."""

from __future__ import annotations

import re
from pathlib import Path

from forebear.text import truncated
from forebear.weights.readers.base import Arrays
from forebear.weights.readers.errors import refused
from forebear.weights.readers.tensorflow.checkpoint_v1 import CheckpointV1
from forebear.weights.readers.tensorflow.checkpoint_v2 import CheckpointV2
from forebear.weights.readers.tensorflow.corruption import EXPECTED, blame
from forebear.weights.readers.tensorflow.protobuf import BYTES, fields
from forebear.weights.readers.tensorflow.sstable import Table, ends_as_table

_DATA = re.compile(r"\.data-\d{5}-of-\d{5}\Z")


def is_tensorflow(path: Path) -> bool:
    """Whether a path leads to a checkpoint of either format, told by how its table ends.

    Args:
        path: A V1 file; or the prefix, the index or a data file of V2.
    """
    return any(ends_as_table(file) for file in _table_files(path))


def open_tensorflow(path: Path) -> Arrays:
    """The arrays of a TensorFlow checkpoint, V1 or V2.

    Names are the file's own, in TF2 with `/.ATTRIBUTES/VARIABLE_VALUE` at their end. Arrays of
    strings are listed and cannot be read; TF2's object graph is left out.

    Args:
        path: A V1 file; or the prefix, the index or a data file of V2.

    Raises:
        WeightsError: no such file, no checkpoint, or a damaged one.
    """
    files = _table_files(path)
    with blame(path):
        there = [file for file in files if file.is_file()]
    if not there:
        what = " and ".join(f"no {truncated(file.name)}" for file in files)
        raise refused(path, what, EXPECTED, "Check the path.")
    file = next((file for file in there if ends_as_table(file)), there[0])
    with blame(file):
        table = Table(file)
        try:
            return _open(path, file, table)
        except BaseException:
            table.close()
            raise


def _open(path: Path, file: Path, table: Table) -> Arrays:
    # V2 begins with the number of its data files, V1 with a message.
    if any(field.number == 1 and field.wire == BYTES for field in fields(table.get(b""))):
        return CheckpointV1(path, table)
    if file.suffix != ".index":
        what = "holds the index of a V2 checkpoint under another name"
        expected = "PREFIX.index, beside PREFIX.data-00000-of-00001"
        raise refused(file, what, expected, "Rename the files.")
    return CheckpointV2(path, file, table)


def _table_files(path: Path) -> tuple[Path, ...]:
    """Where the table may be, best first."""
    if _DATA.search(path.name):
        return (Path(_DATA.sub(".index", str(path))),)
    return path, Path(f"{path}.index")
