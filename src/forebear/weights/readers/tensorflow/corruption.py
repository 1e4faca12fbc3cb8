"""How the parts of the TensorFlow reader say what is wrong, and how that gets its file and array.

The parts (table, snappy, protobuf) see bytes only, so they raise `DamageError` with a sentence's
beginning; whoever knows the file and the array wraps them in `blame`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from forebear.text import truncated
from forebear.weights.readers.errors import refused

EXPECTED = "a whole TensorFlow checkpoint (one V1 file, or PREFIX.index with its PREFIX.data files)"


class DamageError(Exception):
    """Bytes that are not what they should be; the message says which, without a full stop."""


@contextmanager
def blame(path: Path, name: str | None = None) -> Iterator[None]:
    """Turns damage, and what the system says of the file, into one line naming file and array."""
    array = "" if name is None else f"{truncated(name)}: "
    try:
        yield
    except DamageError as error:
        raise refused(path, f"{array}{error}", EXPECTED) from error
    except OSError as error:
        what = f"{array}cannot be read ({error.strerror})"
        raise refused(path, what, EXPECTED, "Check the path and who may read it.") from error
    except MemoryError as error:
        raise refused(
            path, f"{array}does not fit into memory", "an array that does", "Use a larger machine."
        ) from error
