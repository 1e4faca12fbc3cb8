"""When the state of a run is saved: at the end of an epoch if that costs little, else by time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

SAVING = 300.0  # seconds between two checkpoints within an epoch
SAVING_SHARE = 20.0  # times what saving takes, at least, between two at the ends of epochs


@dataclass(slots=True, kw_only=True)
class SaveClock:
    """Knows when the last checkpoint was written, and how long that took."""

    every: int = 0  # steps between two checkpoints within an epoch; 0: by the clock
    clock: Callable[[], float] = time.perf_counter
    _saved: float = field(default=0.0, init=False)  # when the last one was written
    _taken: float = field(default=0.0, init=False)  # seconds that this took

    def start(self) -> None:
        """Counts from now."""
        self._saved = self.clock()

    def due(self, step: int, *, ended: bool = False) -> bool:
        """Whether to save after this step.

        Args:
            step: Steps taken.
            ended: Whether an epoch has just ended and been evaluated.
        """
        if self.every:
            return ended or step % self.every == 0
        return self.clock() - self._saved > (SAVING_SHARE * self._taken if ended else SAVING)

    def saved(self, started: float) -> None:
        """Takes in that a checkpoint has been written, since `started` on the clock."""
        self._saved = self.clock()
        self._taken = self._saved - started
