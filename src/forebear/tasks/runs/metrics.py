"""A line of metrics.jsonl."""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """Metrics from one evaluation to the next, which is usually one epoch: a line of the file."""

    epoch: float  # passes over the training images so far; with a budget perhaps not a whole number
    step: int  # steps so far
    lr: float  # learning rate of the last step
    loss: float  # mean cross-entropy of the augmented training images, nats
    accuracy: float  # top-1 accuracy on them, 0 to 1
    val_loss: float  # mean cross-entropy of the validation images, nats
    val_accuracy: float  # top-1 accuracy on them, 0 to 1
    images_per_second: float  # in training, without evaluations
    seconds: float  # since the first step, evaluations included
    skipped: int  # steps so far whose gradient was not finite
    memory: float  # MiB, the peak so far; of the GPU if there is one
    val_images: int = 0  # validation images that were evaluated; 0 in runs of older versions
    losses: tuple[float, ...]  # the loss in up to 20 equal parts, in order
    lrs: tuple[float, ...]  # the learning rate at the end of each part

    @classmethod
    def read(cls, line: str) -> Epoch:
        """Parses a line of metrics.jsonl."""
        data = json.loads(line)
        return cls(**(data | {key: tuple(data[key]) for key in ("losses", "lrs")}))
