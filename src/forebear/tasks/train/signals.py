"""What a request to end does to a run: the step is finished, the state saved, then the exit."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any, Self

import torch

from forebear.data.loader import Batch
from forebear.errors import StopError
from forebear.tasks.evaluate import InOrder

_FINISHING = "finishing the step and saving; once more to end at once"
TOGETHER = 3.0  # seconds in which two signals are one and the same, under torchrun
_SHOW_CURSOR = "\x1b[?25h"  # that a live display has hidden
_CLEAR_LINE = "\r\x1b[2K"


class StopSignals:
    """Takes note of SIGINT and SIGTERM while it is a context; a second one ends at once.

    Until `wait` there is nothing to save, and the first one raises StopError where the run is.
    What is ignored stays so: a shell has its background jobs ignore the SIGINT of a Ctrl-C.
    """

    def __init__(self, *, says: bool = True) -> None:
        """Takes nothing yet.

        Args:
            says: whether a signal is answered by a line on stderr.
        """
        self.number = 0  # of the signal that came, 0 while none has
        self.waits = False
        self._says = says
        self._came = 0.0  # time.monotonic() of the first signal
        # torchrun forwards a signal that a cluster may send to its processes as well.
        self._twice = TOGETHER if "TORCHELASTIC_RUN_ID" in os.environ else 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
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
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before.clear()

    def wait(self) -> None:
        """From now on there is a state to save: a first signal is noted, and acted on later."""
        self.waits = True

    def watch(self, batches: InOrder) -> InOrder:
        """The same batches, which end with StopError once a signal has come."""
        return _Watched(batches, self)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.number and time.monotonic() - self._came < self._twice:
            return
        if self.number:
            _write(_SHOW_CURSOR if sys.stderr.isatty() else "")
            os._exit(128 + number)
        self.number, self._came = number, time.monotonic()
        if not self.waits:
            raise StopError("stopped by a signal before the first step.", number)
        if self._says:
            _write(f"{_CLEAR_LINE if sys.stderr.isatty() else ''}forebear: {_FINISHING}\n")


@dataclass(frozen=True, slots=True)
class _Watched:
    batches: InOrder
    stop: StopSignals

    @property
    def device(self) -> torch.device:
        return self.batches.device

    def in_order(self) -> Iterator[Batch]:
        for batch in self.batches.in_order():
            if self.stop.number:
                raise StopError("stopped by a signal during an evaluation.", self.stop.number)
            yield batch


def _write(text: str) -> None:
    """Past Python's buffers, which a signal may find half-way."""
    with suppress(OSError):
        os.write(2, text.encode())
