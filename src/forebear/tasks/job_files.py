"""The files next to the result of a job, which let a stopped job continue.

FILE.job.json describes the job. A job with other weights, images or options is refused, and so is a
second process that writes the same result.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from forebear.errors import RunError
from forebear.files import process_lock, write_text
from forebear.text import printable
from forebear.untrusted import read_json

_WORDS = {  # how a user calls the fields of a job
    "paths": "images",
    "top": "--top",
    "precision": "--precision",
    "end_point": "--end-point",
    "maps": "--maps",
}


def check_ending(path: Path, endings: Sequence[str]) -> None:
    """Refuses a name of an unknown kind of file.

    Args:
        path: The result.
        endings: The known ones, such as ".csv".

    Raises:
        ValueError: The ending is unknown, or pyarrow is missing.
    """
    if path.suffix not in endings:
        raise ValueError(
            f"out={printable(path)}: the ending is {path.suffix or 'missing'}. Expected one of "
            f"{', '.join(endings)}. Pass such a name."
        )
    if path.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        others = " or ".join(ending for ending in endings if ending != ".parquet")
        raise ValueError(
            f"out={printable(path)}: Parquet needs pyarrow. Expected it to be installed. Run "
            f"pip install 'forebear[data]', or pass a name with {others}."
        )


def digest_of(paths: Sequence[str]) -> str:
    """Returns the SHA-256 of paths in their order."""
    total = hashlib.sha256()
    for path in paths:
        total.update(os.fsencode(path) + b"\0")
    return total.hexdigest()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keeps other processes from writing a result.

    Raises:
        RunError: Another process writes it, or its folder does not exist or cannot be written to.
    """
    from filelock import Timeout

    folder = path.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        what = "cannot be written to" if folder.is_dir() else "does not exist"
        raise RunError(
            f"{printable(path)}: the folder {printable(folder)} {what}. Expected a folder for the "
            "result. Make it first, or pass another --out."
        )
    if path.exists() and not path.is_file():
        raise RunError(
            f"{printable(path)}: this is not a regular file. Expected the name of a file. Pass "
            "another --out."
        )
    lock = process_lock(path.with_name(f".{path.name}.lock"), wait=0)
    try:
        lock.acquire()
    except Timeout:
        raise RunError(
            f"{printable(path)}: another process writes this result. Expected one job for a file. "
            "Wait for it, or pass another --out."
        ) from None
    try:
        yield
    finally:
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)


def note_of(path: Path) -> Path:
    """Returns the file that describes the job of a result."""
    return path.with_name(f"{path.name}.job.json")


def write_note(path: Path, note: Mapping[str, Any]) -> None:
    """Writes the description of the job of a result."""
    write_text(note_of(path), json.dumps(note, indent=1) + "\n")


def take_up(
    path: Path, job: Mapping[str, Any], parts: Sequence[Path] = (), *, replace: bool
) -> dict[str, Any]:
    """Returns the description of the same job that was stopped; empty if there is none.

    With `replace`, an existing result is deleted, even if it is of the same job.

    Args:
        path: The result.
        job: The fields that decide its content.
        parts: Files that hold rows of an unfinished result.
        replace: Whether an existing result is deleted, instead of continued or refused.

    Raises:
        RunError: A result of another job is there, and `replace` is not given.
    """
    if replace:
        for part in (path, *parts):
            part.unlink(missing_ok=True)
        return {}
    before: object = None
    if note_of(path).exists():
        try:
            before = read_json(note_of(path))
        except ValueError:
            before = None
    if not any(part.exists() for part in (path, *parts)):
        return {}
    if isinstance(before, dict) and all(before.get(name) == job[name] for name in job):
        return before
    raise RunError(
        f"{printable(path)}: {_differs(before, job)}. Expected a new file, or the result of the "
        "same job, which is then continued. Pass another --out, or --replace."
    )


def _differs(before: object, job: Mapping[str, Any]) -> str:
    if not isinstance(before, dict):
        return "the file exists, and it is not known what it is the result of"
    other = [_WORDS.get(name, name) for name, value in job.items() if before.get(name) != value]
    return f"it is the result of another job ({' and '.join(dict.fromkeys(other))} differ)"
