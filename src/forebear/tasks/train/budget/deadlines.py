"""The deadlines of a run on a budget."""

from __future__ import annotations

import time
from dataclasses import dataclass

from forebear.tasks.train.budget.plan import BEFORE
from forebear.tasks.train.request import AUTO
from forebear.tasks.train.resume.checkpoint import seconds_of
from forebear.tasks.train.setup import RunSetup

LATER = 0.02  # fraction of the budget to time evaluations, after the reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """When the parts of a run have to end, in seconds of time.perf_counter()."""

    budget: float  # seconds of the whole run
    started: float  # when the run began, less the seconds of an earlier part of it
    now: float  # when this process began, or when the trials of `--recipe auto` had ended

    @classmethod
    def of(cls, setup: RunSetup) -> Deadlines:
        """Returns those of a run with a budget; a resumed run has what its checkpoint leaves."""
        budget, begun = setup.config.budget, setup.config.started or time.perf_counter()
        assert budget is not None
        folder = setup.folder.checkpoints
        done = setup.world.on_rank0(lambda: seconds_of(folder)) if setup.resumes else 0.0
        now = time.perf_counter() if setup.config.recipe == AUTO else begun
        return cls(budget=budget, started=begun - done, now=now)

    @property
    def left(self) -> float:
        """Seconds of the budget for this part of the run."""
        return max(self.started + self.budget - self.now, 1.0)

    @property
    def read(self) -> float:
        """When reading ends, before the training."""
        return self.ready - LATER * self.left

    @property
    def ready(self) -> float:
        """When the training should begin."""
        return self.now + BEFORE * self.left
