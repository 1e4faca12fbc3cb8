"""The interface that every tracker has, and what their modules share."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Protocol, TypeVar

from forebear.errors import ForebearError
from forebear.text import elided

T = TypeVar("T")
Settings = Mapping[str, str | int | float | bool]
_INSTALL = "Run pip install 'forebear[{}]'."


class Tracker(Protocol):
    """Sends one run to one library. Its methods raise whatever the library raises."""

    replaces: bool  # whether a point hides the later ones of an interrupted run

    def start(self, settings: Settings, known: str) -> str:
        """Begins a tracked run, or continues one, and returns its id.

        Args:
            settings: Of the run, by dotted names.
            known: The id of the tracked run to continue; "" for a new one. If the library does not
                have that run, a new one begins.
        """

    def epoch(self, step: int, values: Mapping[str, float]) -> None:
        """Adds the metrics after a step, by the names of `names.EPOCH`."""

    def finish(self, step: int, values: Mapping[str, float], files: Sequence[Path]) -> None:
        """Adds what belongs to the final weights, and ends the tracked run as finished.

        Args:
            step: The last one.
            values: Metrics of the final weights, by the names of `names.FINAL`.
            files: To attach where the library can.
        """

    def close(self) -> None:
        """Ends a tracked run that is not finished; a later process may continue it."""


def imported(load: Callable[[], T], library: str, remedy: str = "") -> T:
    """Returns what `load` imports.

    Args:
        load: Imports the library.
        library: Its name, which is the tracker's and the extra's.
        remedy: What to do if it cannot be imported, if not to install the extra.

    Raises:
        ForebearError: The library cannot be imported; the message says how to install it.
    """
    try:
        with quiet():
            return load()
    except Exception as error:  # a library of another version can fail in any way
        raise ForebearError(
            f"{library} cannot be imported ({elided(error, 200)}). Expected it for --track "
            f"{library}. {remedy or _INSTALL.format(library)}"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Drops what a library prints to stdout, its warnings, and its log up to warnings."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
