"""How far a run is, by steps or by the clock, and when it is over."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
FINISH = 2.0  # seconds for the last pictures and files, until they have been timed
SHARE = 0.05  # of the time trained, that evaluations on the way may take under a budget


def seconds(text: str) -> float:
    """Seconds of a span of time such as 90s, 20m, 1.5h or 1h30m.

    Raises:
        ValueError: no such span.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text)
    if not parts or "".join(f"{number}{unit}" for number, unit in parts) != text:
        raise ValueError(f"budget={text!r}: expected a time such as 90s, 20m, 1.5h or 1h30m.")
    return sum(float(number) * UNITS[unit] for number, unit in parts)


@dataclass(slots=True, kw_only=True)
class Progress:
    """The length of a run: a number of steps, or a budget of seconds.

    Under a budget the progress is that of the clock, so that the learning rate is at its end when
    the time is, whatever the machine did meanwhile; what the end needs is kept back.
    """

    steps: int = 0  # 0: by the budget
    budget: float = 0.0  # seconds from `begun` to the finished folder
    begun: float  # time.perf_counter() at the start, less what an earlier part of the run took
    evaluation: float = 0.0  # seconds that one takes, as measured last
    finish: float = FINISH  # seconds for what follows the last evaluation
    evaluated: float = field(default=0.0, init=False)  # when the last one on the way ended
    clock: Callable[[], float] = time.perf_counter
    _stride: float = field(default=0.0, init=False)  # seconds of a step

    @property
    def spent(self) -> float:
        """Seconds since the start."""
        return self.clock() - self.begun

    def progress(self, step: int) -> float:
        """Share of the run at a step, counted from 0; between 0 and 1."""
        if self.steps:
            return (step + 1) / (self.steps + 1)
        return min(1.0, self.spent / self._for_training())

    def over(self, step: int) -> bool:
        """Whether the run ends before this step; it has one at least."""
        if self.steps:
            return step >= self.steps
        if not step:
            return False
        return self.spent + self._stride / 2 >= self._for_training()

    def stepped(self, taken: float) -> None:
        """Takes in the seconds of a step, newer ones weighing more."""
        self._stride = taken if not self._stride else 0.8 * self._stride + 0.2 * taken

    def measures(self) -> bool:
        """Whether an evaluation on the way can be afforded."""
        if self.steps:
            return True
        trained = self.clock() - max(self.evaluated, self.begun)
        return self.evaluation <= SHARE * trained and self.progress(0) < 0.9

    def measured(self, taken: float) -> None:
        """Takes in the seconds of an evaluation that has just ended."""
        self.evaluation, self.evaluated = taken, self.clock()

    @property
    def left(self) -> float:
        """Seconds that a budget leaves for training."""
        return max(self._for_training() - self.spent, 0.0)

    def _for_training(self) -> float:
        return max(self.budget - self.evaluation - self.finish, 1e-9)
