"""Keeps the best value of a run's metric, and knows when the run has waited enough for a better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from forebear.tasks.runs.choosing import Measure
from forebear.tasks.runs.layout import BEST
from forebear.tasks.runs.metrics import Epoch
from forebear.tasks.train.state import TrainState


@dataclass(slots=True, kw_only=True)
class Patience:
    """The best evaluation so far.

    The best value is read off the metrics of the epochs, and the number of evaluations since then
    is in the state. So a resumed run goes on with both.
    """

    measure: Measure
    most: int | None  # evaluations without improvement that end the training; None: no number does
    state: TrainState
    epochs: Sequence[Epoch] = ()  # completed before the run was resumed
    best: Epoch | None = field(default=None, init=False)  # the first of equal ones

    def __post_init__(self) -> None:
        for epoch in self.epochs:
            self._improves(epoch)

    @property
    def over(self) -> bool:
        """Whether the training ends."""
        return self.most is not None and self.state.waited >= self.most

    @property
    def line(self) -> str:
        """Says why the training ends."""
        assert self.best is not None
        value = asdict(self.best)[self.measure.column]
        times = "evaluation" if self.most == 1 else "evaluations"
        return (
            f"training ends: no better {self.measure.title} in {self.most} {times} (--patience). "
            f"Best: {self.measure.text(value)} after epoch {self.best.epoch:g}, in {BEST}"
        )

    def take(self, epoch: Epoch) -> bool:
        """Counts an evaluation; returns whether it is the best one so far."""
        improves = self._improves(epoch)
        self.state.waited = 0 if improves else self.state.waited + 1
        return improves

    def _improves(self, epoch: Epoch) -> bool:
        """Takes the evaluation as the best one if it is better, or the first."""
        if self.best is not None and self._score(epoch) <= self._score(self.best):
            return False
        self.best = epoch
        return True

    def _score(self, epoch: Epoch) -> float:
        return self.measure.score(asdict(epoch))
