"""The exceptions for files, data and weights.

    Exception
    ├── ValueError, TypeError   a wrong argument: an unknown name, an unsupported output stride
    └── ForebearError           a file, a data set or a run cannot be used
        ├── TableError          a table of blocks that cannot be read or built
        ├── DataError           images, labels or folders that cannot be used
        ├── WeightsError        arrays that do not fit a network, or a file that is no checkpoint
        └── RunError            a run folder that is missing, unfinished or exists already
            ├── DiskError       a run whose files cannot be written, as the disk is full or fails
            └── StopError       a run that was stopped by a signal and has saved its state

Every message has three parts: what was wrong (with its value), what was expected, what to do.
The command line prints it as one line on stderr. The exit code is the error's `code`: 2, 74 for a
disk, or 128 plus the number of the signal.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from forebear.text import truncated


class ForebearError(Exception):
    """Base class of the errors about files, data and weights."""

    code = 2  # exit code of the command line


class TableError(ForebearError):
    """A table of blocks cannot be read or built; the message names the row."""


class DataError(ForebearError):
    """Images, labels or folders cannot be used; the message names the file."""


class WeightsError(ForebearError):
    """Arrays do not fit the network; the message names them."""


class RunError(ForebearError):
    """A run folder is missing, unfinished or exists already."""


class DiskError(RunError):
    """A run cannot write its files, because the disk is full or fails."""

    code = 74  # EX_IOERR of sysexits.h


class StopError(RunError):
    """A run was stopped by a signal, and has saved its state."""

    def __init__(self, message: str, number: int) -> None:
        """Sets the exit code as shells do: 130 after SIGINT, 143 after SIGTERM."""
        super().__init__(message)
        self.number, self.code = number, 128 + number


def ran_out(error: BaseException) -> bool:
    """Whether an operation failed for lack of memory. The runtimes have no common exception."""
    phrases = ("allocate memory", "not enough memory", "out of memory")
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"  # torch's
    return named or any(one in str(error) for one in phrases)


def near_misses(name: str, known: Iterable[str]) -> str:
    """Returns a sentence " Did you mean ...?" with similar known names, or "" if there are none."""
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(map(truncated, near))}?" if near else ""
