"""The folder of a run while it is trained: settings first, then metrics, the weights last.

layout.py lists its files.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from forebear.errors import RunError
from forebear.files import write_text
from forebear.network.network import Network
from forebear.tasks.runs.html_report import write_index
from forebear.tasks.runs.identity import RunIdentity, identity_of
from forebear.tasks.runs.layout import (
    CHECKPOINTS,
    LOCK,
    METRICS,
    SETTINGS,
    WEIGHTS,
    earlier_weights,
)
from forebear.tasks.runs.lock import FolderLock, refuse_links
from forebear.tasks.runs.metrics import Epoch
from forebear.tasks.runs.read import metric_lines
from forebear.untrusted import parse_json, read_text
from forebear.weights.native_format import save


class RunFolder:
    """The folder of a run that is being trained."""

    def __init__(self, path: Path, *, replace: bool = False) -> None:
        """Checks whether a run may be written there; creates and deletes nothing yet.

        Args:
            path: A new folder, an empty one, or that of an older run.
            replace: Whether an older run may be deleted when this one begins.

        Raises:
            RunError: The folder cannot be used.
        """
        self.path = path
        self._replace = replace
        self._lock = FolderLock(path)
        self.identity = RunIdentity()  # known once the run has begun or was read
        self._owed: list[str] = []  # lines of metrics that could not be written
        if path.exists() and not path.is_dir():
            raise RunError(f"{path}: is a file. Expected a folder to make. Pass another --out.")
        _refuse_unwritable(path)
        refuse_links(path)
        if (path / SETTINGS).is_file() and (path / LOCK).is_file():
            self.hold()
            self.close()
        if not path.is_dir() or not _contents(path):
            return
        if not (path / SETTINGS).is_file():
            raise RunError(
                f"{path}: holds files already, and they are no run. Expected a new or an empty "
                "folder. Pass another --out."
            )
        self._refuse_replacing()

    def begin(self, settings: dict[str, Any]) -> None:
        """Creates the folder, or empties an older run's, and writes settings.json.

        Raises:
            RunError: The folder cannot be created, or another process is training in it.
        """
        text = _with_identity(settings)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.hold()
            if _contents(self.path):  # another run may have ended here in the meantime
                self._refuse_replacing()
            for old in self.path.iterdir():
                if old.name != LOCK:
                    shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
            self.checkpoints.mkdir()
            write_text(self.path / SETTINGS, text)
            self.identity = identity_of(text)
        except OSError as error:
            raise RunError(
                f"{self.path}: cannot be made ({error.strerror or error}). Expected a folder that "
                "can be written to. Pass another --out."
            ) from error

    def _refuse_replacing(self) -> None:
        if not self._replace:
            raise RunError(
                f"{self.path}: holds files already. Expected a new or an empty folder. Pass "
                "another --out, or --replace to delete the run that is there."
            )

    def hold(self) -> None:
        """Locks the folder until `close`, or until this process ends, however it ends.

        Raises:
            RunError: Another process is training in the folder.
        """
        self._lock.acquire()

    def close(self) -> None:
        """Releases the lock and deletes its file, so that other processes can use the folder."""
        self._lock.release()

    def epoch(self, epoch: Epoch) -> None:
        """Appends a line of metrics, and earlier lines that could not be written.

        Raises:
            OSError: It cannot be written. The file is unchanged, and the line is kept for later.
        """
        self._owed.append(json.dumps(asdict(epoch)) + "\n")
        lines = "".join(self._owed).encode()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
        with os.fdopen(os.open(self.path / METRICS, flags, 0o644), "ab", buffering=0) as file:
            before = file.seek(0, os.SEEK_END)
            try:
                if file.write(lines) < len(lines):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                file.truncate(before)
                raise
        self._owed.clear()

    def flush(self) -> None:
        """Flushes the metrics to the disk, so that they survive a loss of power."""
        if (self.path / METRICS).exists():
            with (self.path / METRICS).open("rb") as file:
                os.fsync(file.fileno())

    def weights(self, network: Network) -> None:
        """Writes the network with its model card, which makes the folder a finished run."""
        save(network, self.path / WEIGHTS)
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints of an unfinished run."""
        return self.path / CHECKPOINTS

    def read(self) -> tuple[dict[str, Any], list[Epoch]]:
        """Returns the settings and the epochs of an unfinished run; leaves out an incomplete line.

        Raises:
            RunError: There is no such run, or it is finished.
        """
        if (self.path / WEIGHTS).is_file():
            shutil.rmtree(self.checkpoints, ignore_errors=True)  # left if the run was killed here
            _clear(self.path)
            with suppress(OSError, RunError):  # so is a page that says "unfinished"
                write_index(self.path)
            raise RunError(
                f"{self.path}: the run is finished. Expected one that broke off. To train longer, "
                "add --epochs with the new total; else start another run."
            )
        if not (self.path / SETTINGS).is_file():
            raise RunError(
                f"{self.path}: no run was begun here: {SETTINGS} is missing. Expected the --out of "
                "a forebear train that broke off. Check the path."
            )
        try:
            text = read_text(self.path / SETTINGS)
            self.identity = identity_of(text)
            settings = parse_json(text)
            if not isinstance(settings, dict):
                raise ValueError("no object")
            lines = metric_lines(self.path)
            return settings, [Epoch.read(line) for line in lines if line.endswith("}")]
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise RunError(
                f"{self.path}: its {SETTINGS} or {METRICS} cannot be read ({why}). Expected "
                "those of a run. Train it again with --replace."
            ) from error

    def extend(self, settings: dict[str, Any], epoch: int) -> None:
        """Turns a finished run into one that goes on from its weights, which are kept.

        Args:
            settings: The new settings; they replace those of the run.
            epoch: Epochs that the run has completed.

        Raises:
            RunError: Another process works in the folder.
            OSError: The folder cannot be written to. The run is still finished.
        """
        self.hold()
        try:
            write_text(self.path / SETTINGS, _with_identity(settings))
            (self.path / WEIGHTS).replace(self.path / earlier_weights(epoch))
        finally:
            self.close()

    def keep(self, epochs: Sequence[Epoch]) -> None:
        """Rewrites the metrics with these epochs only, and deletes leftovers of a killed run."""
        _clear(self.path)
        _clear(self.checkpoints)
        write_text(self.path / METRICS, "".join(json.dumps(asdict(e)) + "\n" for e in epochs))


def _with_identity(settings: dict[str, Any]) -> str:
    """Returns the text of settings.json with a new random identity of the run."""
    named = settings | {"id": secrets.token_hex(16)}
    return f"{json.dumps(named, indent=2, ensure_ascii=False)}\n"


def _clear(folder: Path) -> None:
    """Deletes the temporary files that a killed run leaves, forebear's own and safetensors'."""
    for pattern in (".*.tmp*", ".tmp*"):
        for partial in folder.glob(pattern):
            if not partial.is_dir():
                partial.unlink(missing_ok=True)


def _contents(path: Path) -> list[Path]:
    """Returns the contents of a folder, except what a run that was killed at its start leaves."""
    stale = {LOCK, *(one.name for one in path.glob(f".{SETTINGS}.*.tmp*"))}
    return [one for one in path.iterdir() if one.name not in stale]


def _refuse_unwritable(path: Path) -> None:
    """Refuses a folder that cannot be written to before an hour of training, not after it."""
    there = next((one for one in (path, *path.absolute().parents) if one.exists()), path)
    if not there.is_dir() or not os.access(there, os.W_OK):
        why = "is read-only" if there.is_dir() else "is a file"
        raise RunError(
            f"{path}: cannot be made, {there} {why}. Expected a folder that can be written to. "
            "Pass another --out."
        )
