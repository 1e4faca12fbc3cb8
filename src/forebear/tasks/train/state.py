"""Where a run is: everything about it that its tensors do not hold."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(slots=True, kw_only=True)
class TrainState:
    """Where a run is; a checkpoint holds it as JSON."""

    step: int = 0  # steps taken
    epoch: int = 1  # current epoch
    place: int = 0  # steps taken in it
    seconds: float = 0.0  # since the start of the run
    trained: float = 0.0  # of these, in training since the last evaluation
    skipped: int = 0  # steps whose loss or gradient was not finite
    in_row: int = 0  # of these, those since the last good step
    # Of each step since the last evaluation, over all processes:
    losses: list[float] = field(default_factory=list)  # sum over its images, nats
    hits: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)  # images
    lrs: list[float] = field(default_factory=list)

    @classmethod
    def read(cls, data: dict[str, Any]) -> TrainState:
        """Returns the state in a checkpoint; raises KeyError if a field is missing."""
        return cls(**{one.name: data[one.name] for one in fields(cls)})
