"""The graphs of networks that were opened before, kept so that no later program needs torch.

$FOREBEAR_HOME/engines/KEY/
├── fp32.onnx      the graph, with its card inside
├── int8.onnx      quantised, if it was asked for
├── choices.json   the measured engines, by batch, precision, threads and machine
├── used           its time is that of the last use
└── ...            what an engine made of a graph for this processor

KEY stands for one weights file. It changes whenever the file does: the system changes the time of
the last change of a file's status (ctime) with every write, and no program can set it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from forebear.files import home, is_own, make_private, own_text, write_text
from forebear.limits import GRAPHS, GRAPHS_BYTES
from forebear.untrusted import parse_json
from forebear.version import __version__

FP32, INT8, CHOICES, USED = "fp32.onnx", "int8.onnx", "choices.json", "used"
_RUN_WEIGHTS = "model.safetensors"


def weights_file(source: Path) -> Path | None:
    """Returns the file that a source's weights are read from, if it is one file."""
    if source.is_dir():
        source = source / _RUN_WEIGHTS
        if not (source.parent / "settings.json").is_file():
            return None  # several files may decide what a folder of another library means
    return source if source.is_file() else None


def cache_of(source: Path, network: str | None, which: str | None) -> Path | None:
    """Returns the folder for a source, which may not exist yet; None if nothing can be kept.

    Args:
        source: A weights file or a run folder.
        network: The network that the user names.
        which: The set of weights that the user names.
    """
    file = weights_file(source)
    if file is None:
        return None
    state = file.stat()
    facts = [
        str(file.resolve()), state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns,
        state.st_ctime_ns, network, which, __version__,
    ]  # fmt: skip
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]
    return home() / "engines" / key


def kept_graph(folder: Path, name: str) -> Path | None:
    """Returns a graph of the cache that this user wrote, or None."""
    path = folder / name
    return path if is_own(path) else None


def new_folder(folder: Path) -> None:
    """Makes a folder of the cache, and deletes the oldest ones beyond the limits.

    Raises:
        OSError: It cannot be made.
    """
    make_private(folder)
    ages = {}
    for one in folder.parent.iterdir():
        with suppress(OSError):
            files = list(one.iterdir())
            size = sum(file.lstat().st_size for file in files)
            ages[one] = (max((file.lstat().st_mtime for file in files), default=0.0), size)
    ages.pop(folder, None)
    count, room = 1, GRAPHS_BYTES
    for one, (_, size) in sorted(ages.items(), key=lambda item: -item[1][0]):
        count, room = count + 1, room - size
        if count > GRAPHS or room < 0:
            shutil.rmtree(one, ignore_errors=True)


def read_choices(folder: Path) -> dict[str, Any]:
    """Returns the choices of a folder; none if there are none, or if they are damaged."""
    with suppress(OSError, ValueError):
        found = parse_json(own_text(folder / CHOICES))
        if isinstance(found, dict):
            return found
    return {}


def write_choice(folder: Path, key: str, choice: dict[str, Any]) -> None:
    """Adds a choice. If it cannot be written, later programs measure again."""
    with suppress(OSError):
        make_private(folder)
        write_text(folder / CHOICES, json.dumps({**read_choices(folder), key: choice}, indent=1))


def mark_used(folder: Path) -> None:
    """Marks a folder as used, so that it is deleted late."""
    with suppress(OSError):
        (folder / USED).touch()
