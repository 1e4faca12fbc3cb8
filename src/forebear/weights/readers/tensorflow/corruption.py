"""Errors of the TensorFlow readers.

The low-level modules (sstable, snappy, protobuf) know neither the file nor the array. They raise
`DamageError` with the start of a message. The code that knows the file and the array calls them
within `blame`, which completes the message.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from forebear.text import truncated
from forebear.weights.readers.errors import refused

EXPECTED = "a whole TensorFlow checkpoint (one V1 file, or PREFIX.index with its PREFIX.data files)"


class DamageError(Exception):
    """Bytes are damaged. The message describes the damage, without a full stop."""


@contextmanager
def blame(path: Path, name: str | None = None) -> Iterator[None]:
    """Converts DamageError, OSError and MemoryError to a WeightsError with file and array."""
    array = "" if name is None else f"{truncated(name)}: "
    try:
        yield
    except DamageError as error:
        raise refused(path, f"{array}{error}", EXPECTED) from error
    except OSError as error:
        what = f"{array}cannot be read ({error.strerror})"
        raise refused(path, what, EXPECTED, "Check the path and its permissions.") from error
    except MemoryError as error:
        what = f"{array}does not fit into memory"
        remedy = "Use a machine with more memory."
        raise refused(path, what, "enough memory for the array", remedy) from error
