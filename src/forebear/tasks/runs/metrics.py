"""A line of metrics.jsonl."""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """What lies between two evaluations, most often one epoch: a line of metrics.jsonl."""

    epoch: float  # passes over the training pictures so far; whole but for a budget's end
    step: int  # steps so far
    lr: float  # learning rate of its last step
    loss: float  # mean cross-entropy of training pictures as they were seen, nats
    accuracy: float  # share of them named rightly as they were seen
    val_loss: float
    val_accuracy: float
    images_per_second: float  # of training, without evaluations
    seconds: float  # since the first step, evaluations included
    skipped: int  # steps so far whose gradient was not finite
    memory: float  # MiB, the most so far; of the device where it has its own
    val_images: int = 0  # held-out images that were evaluated; 0 in runs of older versions
    losses: tuple[float, ...]  # the loss in up to 20 equal parts, in order
    lrs: tuple[float, ...]  # the learning rate at the end of each part

    @classmethod
    def read(cls, line: str) -> Epoch:
        """The epoch of a line of metrics.jsonl."""
        data = json.loads(line)
        return cls(**(data | {key: tuple(data[key]) for key in ("losses", "lrs")}))
