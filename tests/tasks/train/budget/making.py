"""Clocks and step times for tests of budgets."""

from __future__ import annotations

import math
from typing import Any

import torch

import forebear
from forebear.tasks.train.budget.timing import StepTimes
from forebear.tasks.train.recipe import Recipe

CPU = torch.device("cpu")


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Machine:
    """A machine on which a step takes `fixed` seconds and `image` for 64 images at 96 pixels."""

    def __init__(
        self, clock: Clock, *, fixed: float, images: float, room: float = math.inf
    ) -> None:
        self.clock, self.fixed, self.images, self.room = clock, fixed, images, room
        self.steps: list[tuple[int, int]] = []  # batch and size of each measurement

    def __call__(
        self, recipe: Recipe, network: forebear.Network, device: torch.device, *, until: float
    ) -> float:
        self.steps.append((recipe.batch, recipe.size))
        if recipe.batch > self.room:
            raise MemoryError
        seconds = self.fixed + self.images * recipe.batch / 64 * (recipe.size / 96) ** 2
        for number in range(4):
            self.clock.now += seconds
            if number and self.clock.now + seconds > until:
                break
        return seconds


def recipe(**more: Any) -> Recipe:
    given: dict[str, Any] = {
        "lr": 0.1,
        "schedule": "constant",
        "batch": 64,
        "size": 224,
        "crop": "resized",
        "precision": "fp32",
    }
    return Recipe(**given | more)


def times_of(machine: Machine, *, rate: float = 1e12, **more: Any) -> StepTimes:
    """Step times on a machine; `rate` is what is assumed before a step is known."""
    network = forebear.create("torchvision/resnet18", num_classes=10)
    times = StepTimes(recipe(**more), network, CPU, measure=machine, clock=machine.clock)
    times._rate = rate
    return times
