"""Where lines leave the program: results go to stdout, everything else to stderr.

Text of any origin reaches a terminal through this module alone. Control characters, which could
move the cursor or change the title of a window, are escaped.
"""

from __future__ import annotations

import os
import sys

from forebear.text import escaped, json_text, one_line


def result(text: str) -> None:
    """Prints a result of one or several lines to stdout."""
    print(escaped(text))


def result_json(value: object) -> None:
    """Prints a result as one line of JSON to stdout.

    Raises:
        ValueError: A number is not finite, which JSON cannot express.
    """
    print(json_text(value))


def note(line: str) -> None:
    """Prints one line to stderr."""
    print(f"forebear: {one_line(line)}", file=sys.stderr)


def prepare_streams() -> None:
    """Makes characters that a terminal's encoding lacks come out escaped, not as an error.

    Raises:
        ValueError: stdout is closed.
    """
    if sys.stderr is None:
        while os.open(os.devnull, os.O_WRONLY) < 2:  # no other file may take the place of stderr
            pass
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    if sys.stdout is None:
        raise ValueError(
            "stdout is closed. Expected a place for the results. Redirect them to a file or to "
            f"{os.devnull}."
        )
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
