"""The progress of a run, by steps or by the clock, and its end."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
FINISH = 2.0  # seconds for the last plots and files, until they have been timed
EVALUATING = 0.05  # largest time of evaluations before the end, relative to training


def seconds(text: str) -> float:
    """Parses a time such as 90s, 20m, 1.5h or 1h30m into seconds.

    Raises:
        ValueError: The text is not a time.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text)
    if not parts or "".join(f"{number}{unit}" for number, unit in parts) != text:
        raise ValueError(f"budget={text!r}: expected a time such as 90s, 20m, 1.5h or 1h30m.")
    return sum(float(number) * UNITS[unit] for number, unit in parts)


@dataclass(slots=True, kw_only=True)
class Progress:
    """The length of a run: a number of steps, or a budget of seconds.

    With a budget the clock measures the progress, so that the schedule of the learning rate ends
    with the time, however fast the machine was. It begins with the first step: reading, timing and
    trials take time of the budget, but no part of the schedule. The time that the end of the run
    needs is kept back.
    """

    steps: int = 0  # 0: by the budget
    budget: float = 0.0  # seconds from `begun` to the finished folder
    begun: float  # time.perf_counter() at the start, less the seconds of an earlier part of the run
    evaluation: float = 0.0  # seconds that an evaluation takes, as measured last
    finish: float = FINISH  # seconds for everything after the last evaluation
    only_last: bool = False  # whether the only evaluation is that at the end
    evaluated: float = field(default=0.0, init=False)  # when the last evaluation ended
    first: float = field(default=0.0, init=False)  # seconds of a budget before the first step
    done: float = field(default=0.0, init=False)  # fraction that an earlier part of the run did
    clock: Callable[[], float] = time.perf_counter
    _stride: float = field(default=0.0, init=False)  # seconds of a step
    _taken: int = field(default=0, init=False)  # steps, up to 2

    @property
    def spent(self) -> float:
        """Seconds since the start."""
        return self.clock() - self.begun

    def begin(self, done: float | None) -> None:
        """Records that the first step comes now, where the fraction of a budget begins.

        Args:
            done: The fraction of the run that an earlier part of it did; None: as its seconds say.
        """
        if self.budget:
            self.done = self.progress(0) if done is None else done
            self.first = self.spent

    def progress(self, step: int) -> float:
        """Returns the fraction of the run at a step, counted from 0."""
        if self.steps:
            return (step + 1) / (self.steps + 1)
        whole = max(self._for_training() - self.first, 1e-9)
        return min(1.0, self.done + (1 - self.done) * (self.spent - self.first) / whole)

    def over(self, step: int) -> bool:
        """Whether the run ends before this step; a run has at least one step."""
        if self.steps:
            return step >= self.steps
        if not step:
            return False
        return self.spent + self._stride / 2 >= self._for_training()

    def stepped(self, taken: float) -> None:
        """Records the seconds of a step; newer ones have more weight.

        The first step warms up, for seconds on a GPU, so the second one takes its place.
        """
        self._stride = taken if self._taken < 2 else 0.8 * self._stride + 0.2 * taken
        self._taken = min(self._taken + 1, 2)

    def measures(self) -> bool:
        """Whether to evaluate now, before the end."""
        if self.only_last:
            return False
        if self.steps:
            return True
        trained = self.clock() - max(self.evaluated, self.begun)
        return self.evaluation <= EVALUATING * trained and self.progress(0) < 0.9

    def measured(self, taken: float) -> None:
        """Records the seconds of an evaluation that has just ended."""
        self.evaluation, self.evaluated = taken, self.clock()

    @property
    def left(self) -> float:
        """Seconds that the budget leaves for training."""
        return max(self._for_training() - self.spent, 0.0)

    def _for_training(self) -> float:
        return max(self.budget - self.evaluation - self.finish, 1e-9)
