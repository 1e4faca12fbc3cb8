"""Checkpoints: everything that an unfinished run needs to be resumed, in one file.

The format is safetensors without pickle: the tensors of the network, the optimizer and the moving
average under their paths, the state of the run as JSON, and a SHA-256 of both. A file is written
under another name, flushed and renamed, so that a crash during the write leaves the older files
intact. Random numbers need no state: they depend only on the seed and the position in the run.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from forebear.errors import RunError
from forebear.files import write_whole
from forebear.tasks.runs.identity import RunIdentity
from forebear.tasks.train.state import TrainState
from forebear.text import one_line
from forebear.untrusted import opened, parse_json, refuse_link
from forebear.weights.native_format import digest

FORMAT = "forebear checkpoint 3"
_WITHOUT_RUN = "forebear checkpoint 2"  # of older versions, which did not record the run
KEPT = 2  # the newest ones
_ANY = RunIdentity()


def save_checkpoint(
    folder: Path, state: dict[str, Any], record: TrainState, run: RunIdentity = _ANY
) -> Path:
    """Writes a checkpoint, then deletes all but it and the one before.

    Args:
        folder: Of the checkpoints; created if it is missing.
        state: Nested dictionaries of tensors and numbers.
        record: The state of the run.
        run: The identity of the run.

    Raises:
        OSError: The disk is full, or the folder cannot be written to. Older checkpoints are intact.
    """
    refuse_link(folder)
    folder.mkdir(exist_ok=True)
    ends = dict(_flat(state))
    tensors = {k: v.detach().cpu().contiguous() for k, v in ends.items() if isinstance(v, Tensor)}
    numbers = {k: v for k, v in ends.items() if not isinstance(v, Tensor)}
    said = json.dumps({"record": asdict(record), "numbers": numbers, "run": asdict(run)})
    metadata = {"format": FORMAT, "state": said, "sha256": _digest(tensors, said)}
    path = folder / f"step-{record.step:08}.safetensors"
    try:
        write_whole(path, lambda partial: save_file(tensors, partial, metadata))
    except OSError as error:
        raise _with_room(error, folder, tensors) from error
    _rotate(folder, path)
    return path


def _rotate(folder: Path, newest: Path) -> None:
    """Keeps the newest and the one before; later ones are damaged, as the run went back."""
    there = checkpoints(folder)
    place = there.index(newest)
    for other in there[:place] + there[place + KEPT :]:
        other.unlink(missing_ok=True)


def _with_room(error: OSError, folder: Path, tensors: dict[str, Tensor]) -> OSError:
    """Adds to the error of a full disk how much space is needed and free."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return error
    needed = sum(tensor.nbytes for tensor in tensors.values()) / 2**20
    free = shutil.disk_usage(folder).free / 2**20
    reason = f"{error.strerror}: {needed:,.1f} MiB needed, {free:,.1f} free"
    return OSError(error.errno, reason, error.filename)


def checkpoints(folder: Path) -> list[Path]:
    """Returns the checkpoints in a folder, the newest first. Only their names are looked at."""
    return sorted(folder.glob("step-*.safetensors"), reverse=True)


def seconds_of(folder: Path) -> float:
    """Returns the seconds that a run had taken at its newest readable checkpoint; 0 without one."""
    for path in checkpoints(folder):
        with suppress(OSError, SafetensorError, ValueError, KeyError, TypeError):
            with safe_open(path, "pt") as file:
                said = parse_json((file.metadata() or {})["state"])
            return TrainState.read(said["record"]).seconds
    return 0.0


def load_checkpoint(
    folder: Path, run: RunIdentity = _ANY, check: Callable[[TrainState], str] = lambda _: ""
) -> tuple[dict[str, Any], TrainState, list[str]]:
    """Returns the newest checkpoint of a run, its record, and a line for each one that is not.

    Args:
        folder: Of the checkpoints.
        run: The identity of the run; without one, checkpoints of any run are taken.
        check: Returns why a record cannot be that of the run, or "".

    Raises:
        RunError: No checkpoint is intact.
    """
    damaged = []
    for path in checkpoints(folder):
        try:
            state, record = read_checkpoint(path, run, check)
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else error
            damaged.append(f"{path}: damaged ({one_line(why)}); the one before it is taken.")
        else:
            return state, record, damaged
    found = f" {damaged[0].split('; the one')[0]})." if damaged else ""
    raise RunError(
        f"{folder}: no checkpoint that can be gone on from.{found} Expected one that an unfinished "
        "run wrote. Train again with --replace."
    )


def read_checkpoint(
    path: Path, run: RunIdentity = _ANY, check: Callable[[TrainState], str] = lambda _: ""
) -> tuple[dict[str, Any], TrainState]:
    """Returns the tensors and the record of one checkpoint.

    Args:
        path: The file.
        run: The identity of the run; without one, a checkpoint of any run is taken.
        check: Returns why a record cannot be that of the run, or "".

    Raises:
        ValueError: The content is not what was saved, or it is of another run.
        OSError: It cannot be read.
    """
    with opened(path, follow=False):
        pass  # a regular file: a pipe would block the reader below
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    said = metadata.get("state", "")
    known = metadata.get("format") in (FORMAT, _WITHOUT_RUN)
    if not known or metadata.get("sha256") != _digest(tensors, said):
        raise ValueError("its contents are not those that were saved")
    saved = parse_json(said)
    record = TrainState.read(saved["record"])
    fault = run.mismatch(saved.get("run")) or check(record)
    if fault:
        raise ValueError(fault)
    return _tree(tensors | saved["numbers"]), record


def _digest(tensors: dict[str, Tensor], said: str) -> str:
    return hashlib.sha256(f"{digest(tensors)} {said}".encode()).hexdigest()


def _flat(tree: dict[Any, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yields every leaf of nested dictionaries, under its keys joined by slashes."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{path}{key}/")
        elif value is not None:
            yield f"{path}{key}", value


def _tree(ends: dict[str, Any]) -> dict[Any, Any]:
    """Rebuilds the nested dictionaries; keys of digits only were integers."""
    tree: dict[Any, Any] = {}
    for path, value in ends.items():
        *keys, last = (int(key) if key.isdigit() else key for key in path.split("/"))
        place = tree
        for key in keys:
            place = place.setdefault(key, {})
        place[last] = value
    return tree
