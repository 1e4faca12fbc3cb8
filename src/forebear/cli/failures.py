"""The net below every verb: turns any exception into one line on stderr and an exit code.

    0    done
    1    check: some images cannot be used
    2    a mistake in the arguments, or a file, a data set or a run that cannot be used
    70   an unexpected error: a fault in forebear; the line names the file with the traceback
    74   the disk is full or fails
    128+N  ended by signal N: 130 after Ctrl-C, 143 after SIGTERM

70 and 74 are EX_SOFTWARE and EX_IOERR of sysexits.h. With FOREBEAR_TRACEBACK=1 the exception is
raised instead.
"""

from __future__ import annotations

import dis
import errno
import os
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from forebear.cli import output
from forebear.errors import ForebearError
from forebear.files import home
from forebear.text import elided
from forebear.version import __version__

USAGE, SOFTWARE, IO = 2, 70, 74
SHOW = "FOREBEAR_TRACEBACK"  # the environment variable that shows tracebacks

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
_KEPT = 20  # tracebacks
_LONGEST = 4000  # characters of a message


def explained(error: BaseException, words: Sequence[str]) -> int:
    """Prints one line about an exception, and returns the exit code.

    Args:
        error: Any exception that a verb raised.
        words: The arguments of the command, for the saved traceback.
    """
    if isinstance(error, BrokenPipeError):  # the reader of the pipe has exited, such as head
        _drop_stdout()
        return 0
    if os.environ.get(SHOW) and not isinstance(error, KeyboardInterrupt):
        raise error
    if isinstance(error, KeyboardInterrupt):
        return _fail("interrupted.", 130)
    if isinstance(error, ForebearError):
        return _fail(str(error), error.code)
    if isinstance(error, OSError) and error.errno is not None:
        return _operating_system(error)
    if isinstance(error, MemoryError):
        return _fail(
            "memory has run out. Expected enough for the data and the network. Pass a smaller "
            "batch or size, or free some memory.",
            USAGE,
        )
    if isinstance(error, ValueError | TypeError) and _is_ours(error):
        return _fail(str(error), USAGE)
    return _unexpected(error, words)


def _operating_system(error: OSError) -> int:
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in _DISK:
        _drop_stdout()
        return _fail(
            f"{where}{error.strerror or error}. Expected room on a working disk. Free some disk "
            "space, or pass a writable folder.",
            IO,
        )
    return _fail(
        f"{where}{error.strerror or error}. Expected a path that can be read or written. Check "
        "the path and its permissions.",
        USAGE,
    )


def _is_ours(error: BaseException) -> bool:
    """Whether a raise statement of forebear raised the exception: its messages say what to do."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None:
        return False
    module = str(last.tb_frame.f_globals.get("__name__", ""))
    raises = last.tb_frame.f_code.co_code[last.tb_lasti] == dis.opmap["RAISE_VARARGS"]
    return raises and module.partition(".")[0] == "forebear"


def _unexpected(error: BaseException, words: Sequence[str]) -> int:
    what = elided(f"{type(error).__name__}: {error}", 300)
    text = "".join(traceback.format_exception(error))
    path = _saved(
        f"forebear {__version__}, Python {platform.python_version()}, {platform.platform()}\n"
        f"arguments: {list(words)!r}\n\n{text}"
    )
    where = "The traceback could not be saved" if path is None else f"The traceback is in {path}"
    return _fail(
        f"an unexpected error, {what}. Expected none: this is a fault in forebear. {where}; "
        f"please report it, or run again with {SHOW}=1.",
        SOFTWARE,
    )


def _saved(text: str) -> Path | None:
    """Writes a traceback into the home folder, else into a temporary one; None if both fail."""
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    for folder in (_folder, tempfile.mkdtemp):
        try:
            path = Path(folder()) / name
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
        except (OSError, ValueError):
            continue
        return path
    return None


def _folder() -> Path:
    """Returns the folder of tracebacks, with room for one more."""
    folder = home() / "tracebacks"
    folder.mkdir(parents=True, exist_ok=True)
    for old in sorted(folder.glob("*.txt"))[: -_KEPT + 1]:
        old.unlink(missing_ok=True)
    return folder


def _drop_stdout() -> None:
    """Keeps Python from flushing stdout again at its exit."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError, AttributeError):
        return


def _fail(message: str, code: int) -> int:
    line = message if len(message) <= _LONGEST else f"{message[:_LONGEST]}..."
    output.note(line)
    return code
