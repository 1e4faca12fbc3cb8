from __future__ import annotations

from collections.abc import Iterator

import torch

from forebear.data.loader import Batch
from forebear.tasks.train.budget.evaluation import UntilTime
from tests.tasks.train.budget.making import CPU, Clock


class Slow:
    """Batches of 2 images that take a second each."""

    device = CPU

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def in_order(self) -> Iterator[Batch]:
        for _ in range(5):
            self.clock.now += 1
            yield torch.zeros(2, 3, 4, 4), torch.zeros(2, dtype=torch.int64)


def test_an_evaluation_ends_when_its_time_is_up_but_never_without_an_image() -> None:
    for until, expected in ((1000.0, 5), (103.0, 2), (0.0, 1)):
        clock = Clock()
        watched = UntilTime(Slow(clock), until, clock)
        assert watched.device == CPU
        assert len(list(watched.in_order())) == expected
