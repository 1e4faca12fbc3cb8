"""How readers refuse a file: one sentence in three parts, whatever a library makes of the damage.

The limits are far above every published network and far below what fills a machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from forebear.errors import WeightsError
from forebear.text import truncated

MAX_NAMES = 100_000  # ResNet-1202 has 7,215
MAX_NAME = 1_000  # characters
FRESH_COPY = "Take a fresh copy of the file."


def refused(path: Path, what: str, expected: str, remedy: str = FRESH_COPY) -> WeightsError:
    """The error with which a reader turns a file away, on one line."""
    return WeightsError(f"{truncated(path)}: {what}. Expected {expected}. {remedy}")


@contextmanager
def reading(path: Path, expected: str, array: str | None = None) -> Iterator[None]:
    """Turns whatever damaged bytes make a library raise into a refusal.

    Args:
        path: The file.
        expected: What the file was taken for.
        array: The name of the array that is read, if it is one.

    Raises:
        WeightsError: in place of any other exception.
    """
    try:
        yield
    except WeightsError:
        raise
    except Exception as error:  # damage leads a library anywhere
        said = truncated(error.args[0] if isinstance(error, KeyError) and error.args else error)
        what = f"cannot be read ({said or type(error).__name__})"
        what = what if array is None else f"{truncated(array)}: {what}"
        raise refused(path, what, expected) from error


def check_names(path: Path, names: Iterable[str]) -> None:
    """Refuses too many names, one that is too long, and one that comes twice."""
    seen = set()
    for name in names:
        if len(name) > MAX_NAME:
            raise refused(
                path,
                f"{truncated(name)}: a name of {len(name)} characters",
                f"names of at most {MAX_NAME}",
            )
        if name in seen:
            raise refused(path, f"{truncated(name)}: two arrays of this name", "each name once")
        seen.add(name)
        if len(seen) > MAX_NAMES:
            raise refused(path, f"more than {MAX_NAMES} arrays", "a network's arrays")


def largest_content(size: int) -> int:
    """The most bytes into which a file of `size` bytes may unpack: a hundredfold, and a MiB."""
    return 100 * size + 2**20
