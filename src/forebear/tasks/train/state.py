"""Where a run is: everything about it that its tensors do not hold."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

from forebear.settings import MOST
from forebear.text import elided


@dataclass(slots=True, kw_only=True)
class TrainState:
    """Where a run is; a checkpoint holds it as JSON."""

    step: int = 0  # steps taken
    epoch: int = 1  # current epoch
    place: int = 0  # steps taken in it
    seconds: float = 0.0  # since the start of the run
    trained: float = 0.0  # of these, in training since the last evaluation
    progress: float | None = 0.0  # fraction of the run; None in checkpoints of older versions
    skipped: int = 0  # steps whose loss or gradient was not finite
    in_row: int = 0  # of these, those since the last good step
    waited: int = 0  # evaluations since the best one, for --patience
    # Of each step since the last evaluation, over all processes:
    losses: list[float] = field(default_factory=list)  # sum over its images, nats
    hits: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)  # images
    lrs: list[float] = field(default_factory=list)

    @classmethod
    def read(cls, data: dict[str, Any]) -> TrainState:
        """Returns the state in a checkpoint.

        Raises:
            KeyError: A field is missing.
            ValueError: A value is out of range.
        """
        data = {"waited": 0, "progress": None, **data}  # which older versions did not save
        values = {one.name: data[one.name] for one in fields(cls)}
        for name in ("step", "epoch", "place", "skipped", "in_row", "waited"):
            least = 1 if name == "epoch" else 0
            if type(values[name]) is not int or not least <= values[name] <= MOST:
                raise ValueError(f"{name}={elided(repr(values[name]))} is no count")
        for name in ("seconds", "trained"):
            if not _is_number(values[name]) or not 0 <= values[name] < math.inf:
                raise ValueError(f"{name}={elided(repr(values[name]))} is no time")
        part = values["progress"]
        if part is not None and not (_is_number(part) and 0 <= part <= 1):
            raise ValueError(f"progress={elided(repr(part))} is no fraction")
        columns = [values[name] for name in ("losses", "hits", "counts", "lrs")]
        fits = all(isinstance(one, list) and all(map(_is_number, one)) for one in columns)
        if not fits or len({len(one) for one in columns}) != 1 or len(columns[0]) > values["step"]:
            raise ValueError("its steps since the last evaluation are not consistent")
        return cls(**values)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
