"""What goes wrong with files, data and weights, as a small tree.

    Exception
    ├── ValueError, TypeError   a wrong argument: an unknown name, an output stride out of reach
    └── ForebearError           something outside the call is wrong
        ├── TableError          a table of blocks that cannot be read or built
        ├── DataError           pictures, labels or folders that cannot be used
        ├── WeightsError        arrays that do not fit a network, or a file that is no checkpoint
        └── RunError            a run folder that is missing, unfinished or in the way
            └── StopError       a run that was asked to end, and has saved its state

Every message has three parts: what was wrong (with its value), what was expected, what to do.
The command line prints it as one line on stderr and exits with its `code`: 2, or as shells do after
a signal.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ForebearError(Exception):
    """Base of the errors about files, data and weights."""

    code = 2  # that the command line exits with


class TableError(ForebearError):
    """A table of blocks cannot be read or built; the message names the row."""


class DataError(ForebearError):
    """Pictures, labels or folders cannot be used; the message names the file."""


class WeightsError(ForebearError):
    """Arrays do not fit the network; the message names them."""


class RunError(ForebearError):
    """A run folder is missing, unfinished or in the way."""


class StopError(RunError):
    """A run was asked to end by a signal, and has saved its state."""

    def __init__(self, message: str, number: int) -> None:
        """As shells count: 130 after SIGINT, 143 after SIGTERM."""
        super().__init__(message)
        self.number, self.code = number, 128 + number


def near_misses(name: str, known: Iterable[str]) -> str:
    """A sentence that names what `name` was probably meant to be, or "" when nothing is near."""
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(near)}?" if near else ""
