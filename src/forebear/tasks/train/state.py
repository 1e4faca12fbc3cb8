"""Where a run is, and what is shown of it on the way."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochProgress:
    """The state within an epoch."""

    epoch: int  # from 1
    progress: float  # share of the run
    loss: float  # mean of this epoch so far, nats
    accuracy: float  # share of this epoch's training pictures named rightly so far
    rate: float  # images a second since the start of the epoch or of the process
    memory: float  # MiB, the most so far


@dataclass(slots=True, kw_only=True)
class TrainState:
    """Where a run is: all that its tensors do not say."""

    step: int = 0  # steps done
    epoch: int = 1  # that is under way
    place: int = 0  # steps done in it
    seconds: float = 0.0  # that the run has taken
    trained: float = 0.0  # of these, in training since the last evaluation
    skipped: int = 0  # steps whose loss or gradient was not finite
    in_row: int = 0  # of these, the last ones without a good one between
    # Of each step since the last evaluation, over all processes:
    losses: list[float] = field(default_factory=list)  # sum over its pictures, nats
    hits: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)  # its pictures
    lrs: list[float] = field(default_factory=list)

    @classmethod
    def read(cls, data: dict[str, Any]) -> TrainState:
        """The state of a checkpoint's record; KeyError where a field is missing."""
        return cls(**{one.name: data[one.name] for one in fields(cls)})
