"""The learning rate of each step."""

from __future__ import annotations


def triangular(step: int, steps: int, warmup: float) -> float:
    """Share of the peak rate at a step of 0..steps - 1: up for the share `warmup`, then down to 0.

    Page, How to train your ResNet (2018), part 1; the last step still moves the weights.
    """
    place = (step + 1) / (steps + 1)
    return place / warmup if place < warmup else (1 - place) / (1 - warmup)
