"""What a request to end does to a run: the step is finished, the state saved, then the exit."""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType
from typing import Any, Self


class Stop:
    """Takes note of SIGINT and SIGTERM while it is a context; a second one ends at once."""

    def __init__(self) -> None:
        self.number = 0  # of the signal that came, 0 while none has
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        except ValueError:  # not in the main thread: whoever called us has the signals
            self._before.clear()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.number:
            os._exit(128 + number)
        self.number = number
