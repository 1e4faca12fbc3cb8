"""Error messages and limits of the readers.

A message has three parts and is one line, whatever error a library raises for a damaged file. The
limits are far above the size of every published network, and far below the memory of a machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from forebear.errors import WeightsError
from forebear.text import one_line, truncated

MAX_NAMES = 100_000  # ResNet-1202 has 7,215
MAX_NAME = 1_000  # characters
MAX_WHAT = 1_000  # characters of a message that says what is wrong with a file
FRESH_COPY = "Use a fresh copy of the file."


def refused(path: Path, what: str, expected: str, remedy: str = FRESH_COPY) -> WeightsError:
    """Returns the error for a file that cannot be read. Its message is one line.

    `what` may name parts of the file: it is escaped and cut, whatever is in it.
    """
    return WeightsError(
        f"{truncated(path)}: {truncated(one_line(what), MAX_WHAT)}. Expected {expected}. {remedy}"
    )


@contextmanager
def reading(path: Path, expected: str, array: str | None = None) -> Iterator[None]:
    """Converts every exception that a library raises for a damaged file to a WeightsError.

    Args:
        path: The file.
        expected: The expected contents of the file, for the message.
        array: The name of the array, if one is read.

    Raises:
        WeightsError: The code in the context raised an exception.
    """
    try:
        yield
    except WeightsError:
        raise
    except Exception as error:  # libraries raise any exception for damaged files
        said = truncated(error.args[0] if isinstance(error, KeyError) and error.args else error)
        what = f"cannot be read ({said or type(error).__name__})"
        what = what if array is None else f"{truncated(array)}: {what}"
        raise refused(path, what, expected) from error


def check_names(path: Path, names: Iterable[str]) -> None:
    """Checks the names of the arrays in a file.

    Raises:
        WeightsError: There are too many names, or a name is too long or occurs twice.
    """
    seen = set()
    for name in names:
        if len(name) > MAX_NAME:
            raise refused(
                path,
                f"{truncated(name)}: this name has {len(name)} characters",
                f"names of at most {MAX_NAME} characters",
            )
        if name in seen:
            raise refused(path, f"{truncated(name)}: two arrays have this name", "each name once")
        seen.add(name)
        if len(seen) > MAX_NAMES:
            raise refused(path, f"it has more than {MAX_NAMES} arrays", f"at most {MAX_NAMES}")


def largest_content(size: int) -> int:
    """Returns the maximum unpacked size of a file of `size` bytes: 100 times as much plus 1 MiB."""
    return 100 * size + 2**20
