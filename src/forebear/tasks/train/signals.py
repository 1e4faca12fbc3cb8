"""Signals that end a run: it finishes the step, saves its state, and exits."""

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
from forebear.tasks.evaluation_batches import InOrder

_FINISHING = "finishing this step and saving a checkpoint; press Ctrl-C again to quit at once"
TOGETHER = 3.0  # seconds within which torchrun delivers one signal twice
_SHOW_CURSOR = "\x1b[?25h"  # that a live display has hidden
_CLEAR_LINE = "\r\x1b[2K"


class StopSignals:
    """Notes SIGINT and SIGTERM within its context; a second signal ends the process at once.

    Until `wait` is called there is nothing to save, and the first signal raises StopError in the
    main thread. Signals that were ignored stay ignored: a shell lets its background jobs ignore the
    SIGINT of Ctrl-C.
    """

    def __init__(self, *, says: bool = True) -> None:
        """Installs nothing yet.

        Args:
            says: Whether a signal is answered by a line on stderr.
        """
        self.number = 0  # of the signal that came; 0: none
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
        except ValueError:  # not in the main thread, which owns the signals
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
        """Starts to note signals in `number`, as there is a state to save before the run ends."""
        self.waits = True

    def watch(self, batches: InOrder) -> InOrder:
        """Returns the same batches, which raise StopError after a signal."""
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
    """Writes to stderr directly, as a signal may come while Python's buffer is being written."""
    with suppress(OSError):
        os.write(2, text.encode())
