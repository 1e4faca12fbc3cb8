"""The result of a predict job as a file: csv, jsonl or parquet, one row per image, resumable.

Rows are appended in the order of the images, a batch at a time, so the number of complete rows says
where a killed job stopped. The job's description is in FILE.job.json: a job with
other weights, images or options is refused. A Parquet file is written at the end, from rows that
are kept in FILE.rows.jsonl until then.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from forebear.errors import RunError
from forebear.files import write_whole
from forebear.network.calibration import UNKNOWN
from forebear.tasks.job_files import check_ending, digest_of, locked, take_up, write_note
from forebear.text import json_text, one_line, printable, truncated

ENDINGS = (".csv", ".jsonl", ".parquet")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What decides the content of a result file."""

    weights: str  # SHA-256 of the weights, or what identifies their file
    precision: str
    top: int  # classes per image
    images: int
    paths: str  # SHA-256 of the paths in their order
    multi_label: bool = False  # whether there is a column of labels

    @staticmethod
    def of(
        weights: str, precision: str, top: int, paths: Sequence[str], *, multi_label: bool = False
    ) -> Job:
        """Returns the job of a list of images."""
        return Job(
            weights=weights, precision=precision, top=top, images=len(paths),
            paths=digest_of(paths), multi_label=multi_label,
        )  # fmt: skip

    def row(self, answer: Answer) -> dict[str, Any]:
        """Returns the row of an answer."""
        return answer.row(self.top, multi_label=self.multi_label)

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(self.row(Answer(path="")))

    def as_dict(self) -> dict[str, Any]:
        """Returns the fields; those of a job with one class an image are as in older versions."""
        known = asdict(self)
        if not self.multi_label:
            del known["multi_label"]
        return known


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One image's row."""

    path: str
    guesses: tuple[tuple[str, float], ...] = ()  # class and probability, the best first
    error: str = ""  # why it has no classes
    unknown: bool = False  # whether its score is below the threshold, if that was asked for
    labels: tuple[str, ...] | None = None  # of a multi-label network: those above their thresholds

    def row(self, top: int, *, multi_label: bool = False) -> dict[str, Any]:
        """Returns path, class and probability, those of the next best classes, and the error.

        The class of an unknown image is "unknown"; its probability is that of the best class. With
        several labels an image, `labels` has their names with ; between them, "" for none, and the
        classes are the most probable ones whether they are labels or not.

        Args:
            top: Classes per image.
            multi_label: Whether images can have several labels.
        """
        found: dict[str, Any] = {"path": one_line(self.path)}
        if multi_label:
            found["labels"] = None if self.labels is None else ";".join(self.labels)
        for place in range(top):
            suffix = "" if place == 0 else f"_{place + 1}"
            name, share = self.guesses[place] if place < len(self.guesses) else (None, None)
            found[f"class{suffix}"], found[f"probability{suffix}"] = name, share
        if self.unknown:
            found["class"] = UNKNOWN
        return found | {"error": self.error or None}


class ResultFile:
    """A result file that is open for one job."""

    def __init__(self, path: Path, job: Job) -> None:
        """Names the files; `opened` opens them."""
        self.path, self._job = path, job
        parquet = path.suffix == ".parquet"
        self._rows = path.with_name(f"{path.name}.rows.jsonl") if parquet else path
        self._file: IO[bytes] | None = None
        self._csv = path.suffix == ".csv"
        self.done = 0  # complete rows
        self.failed = 0  # of these, rows with an error

    def add(self, answers: Sequence[Answer]) -> None:
        """Appends rows. After an error the file ends with the last complete row.

        Raises:
            OSError: The disk is full.
        """
        assert self._file is not None
        end = self._file.tell()
        text = "".join(self._line(self._job.row(answer)) for answer in answers)
        try:
            self._file.write(text.encode("utf-8"))
            self._file.flush()
        except OSError:
            self._file.truncate(end)
            raise
        self.done += len(answers)
        self.failed += sum(bool(answer.error) for answer in answers)

    def _line(self, row: dict[str, Any]) -> str:
        if not self._csv:
            return f"{json_text(row)}\n"
        held = io.StringIO()
        cells = ["" if value is None else value for value in row.values()]
        safe = [one_line(cell) if isinstance(cell, str) else cell for cell in cells]
        csv.writer(held, lineterminator="\n").writerow(safe)
        return held.getvalue()

    def _header(self) -> bytes:
        return (",".join(self._job.columns) + "\n").encode() if self._csv else b""

    def open(self) -> None:
        """Opens the file behind its last complete row."""
        self._file = self._rows.open("r+b" if self._rows.exists() else "w+b")
        content = self._file.read()
        header = self._header()
        if not content.startswith(header):
            content = b""
        whole = content[: content.rfind(b"\n") + 1]
        lines = whole[len(header) :].splitlines()
        self.done = min(len(lines), self._job.images)
        self.failed = sum(self._has_error(line) for line in lines)
        self._file.seek(0)
        self._file.truncate(len(whole))
        self._file.seek(len(whole))
        if not whole:
            self._file.write(header)

    def _has_error(self, line: bytes) -> bool:
        if self._csv:
            return not line.endswith(b",")
        return not line.endswith(b'"error": null}')

    def close(self) -> None:
        """Closes the file, and writes a Parquet file if all images are answered."""
        if self._file is None:
            return
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._file = None
        if self._rows != self.path and self.done == self._job.images:
            write_whole(self.path, self._to_parquet)
            self._rows.unlink()

    def _to_parquet(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        fields = [
            pa.field(name, pa.float32() if "probability" in name else pa.string())
            for name in self._job.columns
        ]
        schema = pa.schema(fields)
        with pq.ParquetWriter(path, schema) as writer, self._rows.open("rb") as file:
            rows: list[dict[str, Any]] = []
            for line in file:
                rows.append(json.loads(line))
                if len(rows) == 65_536:
                    writer.write_table(pa.Table.from_pylist(rows, schema))
                    rows = []
            writer.write_table(pa.Table.from_pylist(rows, schema))


@contextmanager
def opened_result(path: Path, job: Job, *, replace: bool = False) -> Iterator[ResultFile]:
    """Opens a result file, new or that of a job that was stopped.

    Args:
        path: Ends in .csv, .jsonl or .parquet.
        job: What the file is the result of.
        replace: Whether an existing result is overwritten, also that of the same job.

    Raises:
        ValueError: The ending is unknown, or pyarrow is missing.
        RunError: The file is the result of another job, or another process writes it.
        OSError: It cannot be written.
    """
    check_ending(path, ENDINGS)
    with locked(path):
        take_up(path, job.as_dict(), [path.with_name(f"{path.name}.rows.jsonl")], replace=replace)
        write_note(path, job.as_dict())
        result = ResultFile(path, job)
        if path.suffix == ".parquet" and path.exists():
            result.done, result.failed = job.images, _errors_in(path)
            yield result
            return
        result.open()
        try:
            yield result
        finally:
            result.close()


def _errors_in(path: Path) -> int:
    """Returns the number of rows with an error in a finished Parquet file.

    Raises:
        RunError: It is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        column = pq.read_table(path, columns=["error"])["error"]
    except (OSError, pa.ArrowException, KeyError) as error:
        raise RunError(
            f"{printable(path)}: it cannot be read ({truncated(one_line(error))}). Expected the "
            "file as the job left it. Pass --replace to start again."
        ) from None
    return int(len(column) - column.null_count)
