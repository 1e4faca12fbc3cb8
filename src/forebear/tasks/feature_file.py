"""The features of many images as a file: .npy or .parquet, one row per image, resumable.

The rows lie in a memory-mapped .npy file whose room is reserved at the start. FILE.job.json says
whose features they are, and how many rows are finished. A Parquet file is written at the end, from
rows that are kept in FILE.rows.npy until then.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from forebear.errors import RunError
from forebear.files import write_text, write_whole
from forebear.tasks.job_files import check_ending, locked, note_of, take_up, write_note
from forebear.text import one_line, printable

ENDINGS = (".npy", ".parquet")
_GROUP = 2**24  # values in a row group of a Parquet file, 64 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureJob:
    """What decides the content of a file of features."""

    weights: str  # SHA-256 of the weights, the dialect and the preprocessing
    end_point: str
    maps: bool
    images: int
    paths: str  # SHA-256 of the paths in their order


class FeatureFile:
    """A file of features that is open for one job. `opened_features` opens it."""

    def __init__(
        self, path: Path, job: FeatureJob, shape: tuple[int, ...], paths: Sequence[str]
    ) -> None:
        """Names the files."""
        self.path, self._job, self._paths = path, job, paths
        self._shape = (job.images, *shape)
        self._data: NDArray[np.float32] | None = None
        self.rows = path.with_name(f"{path.name}.rows.npy") if path.suffix == ".parquet" else path
        self.done = 0  # finished rows
        self.failed = 0  # of these, images that could not be read

    def open(self, before: dict[str, Any]) -> None:
        """Opens the rows behind the last finished one.

        Args:
            before: The note of the same job that was stopped, or an empty dict.
        """
        self.done, self.failed = (_count(before.get(name)) for name in ("done", "failed"))
        if self.rows != self.path and self.path.exists():
            self.done = self._job.images
            self.rows.unlink(missing_ok=True)  # of a job that was killed right at its end
        elif self.done:
            self._data = self._reopened()
        else:
            self._note()
            self._data = self._created()
            if self.rows == self.path:
                lines = "".join(f"{one_line(path)}\n" for path in self._paths)
                write_text(self.path.with_name(f"{self.path.name}.paths.txt"), lines)

    def add(self, values: NDArray[np.float32], failed: int) -> None:
        """Writes the next rows, and then that they are finished.

        Args:
            values: [N, ...].
            failed: How many of the images could not be read.
        """
        assert isinstance(self._data, np.memmap)
        end = self.done + len(values)
        self._data[self.done : end] = values
        self._data.flush()
        self.done, self.failed = end, self.failed + failed
        self._note()

    def close(self) -> None:
        """Closes the file, and writes a Parquet file if all rows are finished."""
        if self._data is not None and self.rows != self.path and self.done == self._job.images:
            write_whole(self.path, self._to_parquet)
            self.rows.unlink()
        self._data = None

    def _note(self) -> None:
        write_note(self.path, asdict(self._job) | {"done": self.done, "failed": self.failed})

    def _created(self) -> NDArray[np.float32]:
        """Creates the rows and reserves their room: a full disk would end the process later."""
        if self.rows.exists() and not self.rows.is_file():
            raise OSError(errno.EINVAL, "not a regular file", str(self.rows))
        try:
            data = open_memmap(self.rows, "w+", np.float32, self._shape)
            if hasattr(os, "posix_fallocate"):
                with self.rows.open("r+b") as file:
                    os.posix_fallocate(file.fileno(), 0, self.rows.stat().st_size)
        except OSError as error:
            self.rows.unlink(missing_ok=True)
            note_of(self.path).unlink(missing_ok=True)
            raise OSError(error.errno, os.strerror(error.errno or 0), str(self.rows)) from None
        return np.asanyarray(data)

    def _reopened(self) -> NDArray[np.float32]:
        try:
            data = open_memmap(self.rows, "r")  # "r+" extends a file that is too short
        except ValueError:
            data = None
        if data is None or data.shape != self._shape or data.dtype != np.float32:
            raise RunError(
                f"{printable(self.rows)}: it does not hold {list(self._shape)} float32 values. "
                "Expected the file as the job left it. Pass --replace to start again."
            )
        return np.asanyarray(open_memmap(self.rows, "r+"))

    def _to_parquet(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        assert self._data is not None
        size = prod(self._shape[1:])
        kind = pa.list_(pa.field("element", pa.float32()), size)
        facts = {"end_point": self._job.end_point, "shape": json.dumps(self._shape[1:])}
        fields = [pa.field("path", pa.string()), pa.field("features", kind)]
        step = max(1, _GROUP // size)
        with pq.ParquetWriter(path, pa.schema(fields, metadata=facts)) as writer:
            for first in range(0, len(self._data), step):
                values = np.ascontiguousarray(self._data[first : first + step]).reshape(-1)
                paths = [one_line(one) for one in self._paths[first : first + step]]
                column = pa.FixedSizeListArray.from_arrays(values, type=kind)
                writer.write_table(
                    pa.table([pa.array(paths, pa.string()), column], schema=writer.schema)
                )


def _count(value: object) -> int:
    return value if isinstance(value, int) and value >= 0 else 0


@contextmanager
def opened_features(
    path: Path,
    job: FeatureJob,
    shape: tuple[int, ...],
    paths: Sequence[str],
    *,
    replace: bool = False,
) -> Iterator[FeatureFile]:
    """Opens a file of features, new or that of a job that was stopped.

    Args:
        path: Ends in .npy or .parquet.
        job: What the file is the result of.
        shape: Of one row.
        paths: The images, in the order of the rows.
        replace: Whether an existing result is overwritten, also that of the same job.

    Raises:
        RunError: The file is the result of another job, or another process writes it.
        OSError: It cannot be written, or there is no room for it.
    """
    check_ending(path, ENDINGS)
    file = FeatureFile(path, job, shape, paths)
    with locked(path):
        file.open(take_up(path, asdict(job), [file.rows], replace=replace))
        try:
            yield file
        finally:
            file.close()
