"""The progress of a job over many images."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress


class Bar:
    """A progress bar on stderr with images per second and the time left, if it is a terminal."""

    def __init__(self, total: int, done: int) -> None:
        self._total, self._done, self._answered = total, done, 0
        self._progress: Progress | None = None

    def __enter__(self) -> Bar:
        import time

        self._clock = time.perf_counter
        self._begun = self._clock()
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
            )

            self._progress = Progress(
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[speed]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._progress.start()
            self._task = self._progress.add_task(
                "", total=self._total, completed=self._done, speed=""
            )
        return self

    def advance(self, count: int) -> None:
        """Counts answered images."""
        self._answered += count
        if self._progress is not None:
            rate = self._answered / max(self._clock() - self._begun, 1e-9)
            self._progress.update(self._task, advance=count, speed=f"{rate:,.0f} images/s")

    def speed(self) -> str:
        """Returns the images per second, for the last line; "" if there was nothing to do."""
        if not self._answered:
            return ""
        return f", {self._answered / max(self._ended - self._begun, 1e-9):,.0f} images/s"

    def __exit__(self, *_: object) -> None:
        self._ended = self._clock()
        if self._progress is not None:
            self._progress.stop()
