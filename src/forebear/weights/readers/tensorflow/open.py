"""Opens TensorFlow checkpoints: detects the format, V1 or V2, and selects the reader."""

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
    """Whether a path is that of a checkpoint of either format, judged by the end of its table.

    Args:
        path: A V1 file, or the prefix, the index or a data file of V2.
    """
    return any(ends_as_table(file) for file in _table_files(path))


def open_tensorflow(path: Path) -> Arrays:
    """Opens a TensorFlow checkpoint, V1 or V2.

    The names are those in the file. Arrays of strings are listed, but cannot be read. In a
    checkpoint of TF2's objects, the names are those in the object graph, and strings are omitted.

    Args:
        path: A V1 file, or the prefix, the index or a data file of V2.

    Raises:
        WeightsError: The file is missing or damaged, or it is not a checkpoint.
    """
    files = _table_files(path)
    with blame(path):
        there = [file for file in files if file.is_file()]
    if not there:
        what = f"there is no file {' or '.join(truncated(file.name) for file in files)}"
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
    # V2 starts with the number of its data files, V1 with a message.
    if any(field.number == 1 and field.wire == BYTES for field in fields(table.get(b""))):
        return CheckpointV1(path, table)
    if file.suffix != ".index":
        what = "it is the index of a V2 checkpoint with another name"
        expected = "PREFIX.index, and PREFIX.data-00000-of-00001 in the same folder"
        raise refused(file, what, expected, "Rename the files.")
    return CheckpointV2(path, file, table)


def _table_files(path: Path) -> tuple[Path, ...]:
    """Returns the possible paths of the table, the preferred one first."""
    if _DATA.search(path.name):
        return (Path(_DATA.sub(".index", str(path))),)
    return path, Path(f"{path}.index")
