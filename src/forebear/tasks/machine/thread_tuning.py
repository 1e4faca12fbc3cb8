"""How many threads compute: all, or one while other programs keep the processors busy.

torch's threads wait for each other after every operation. With a busy neighbour on the machine each
wait lasts as long as the scheduler likes: on two cores a ResNet-20 fell from 1,300 to 20 pictures a
second, while one thread kept 700. So the steps themselves are timed, and the faster count is used.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

import torch

from forebear.hardware import processor

SLOWER = 1.3  # times the seconds of one thread, beyond which all threads are given up
CROWDED = 0.8  # times the seconds of one thread, from which all threads are not worth a try
FIRST_WAIT, LONGEST_WAIT = 5.0, 80.0  # seconds until all threads are tried again, doubled each time


class ThreadTuner:
    """Times steps, each a `with` block of like work, and sets torch's threads between them."""

    def __init__(
        self, device: torch.device, fixed: int | None = None, *, careful: bool = False
    ) -> None:
        """Chooses nothing yet, unless it is careful: then one thread begins on a busy machine.

        Args:
            device: where the steps run; off the processor there is nothing to choose.
            fixed: threads to use throughout, for results that agree to the last bit.
            careful: whether short products say if all threads are worth a step, which can take a
                hundred times as long beside a busy neighbour; for runs that end by the clock.

        Raises:
            ValueError: fixed is below 1.
        """
        if fixed is not None and fixed < 1:
            raise ValueError(
                f"threads={fixed}: expected 1 or more. Leave it out to have it chosen."
            )
        if fixed is not None:
            torch.set_num_threads(fixed)
        elif torch.get_num_threads() > processor().cores:  # torch ignores a container's limit
            torch.set_num_threads(processor().cores)
        self.all = torch.get_num_threads()
        self.chooses = fixed is None and self.all > 1 and device.type == "cpu"
        self.amount = 1.0  # of work in a step, where steps differ; set before each
        self.seconds: dict[int, float] = {}  # of an amount of 1, by threads, newer ones weigh more
        self.steps = 0
        self.wait, self.again = FIRST_WAIT, float("inf")
        self.started = 0.0
        self.crowded: Callable[[int], bool] = crowded if careful else _never
        if self.chooses and self.crowded(self.all):
            self._use(1)

    def __enter__(self) -> Self:
        self.started = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        if self.chooses:
            now = time.perf_counter()
            self._seen(torch.get_num_threads(), (now - self.started) / self.amount, now)

    def _seen(self, count: int, seconds: float, now: float) -> None:
        self.steps += 1
        if self.steps == 1:  # the first step allocates; then one thread is timed, then all
            self._use(1)
            return
        old = self.seconds.get(count, seconds)
        self.seconds[count] = 0.6 * old + 0.4 * seconds
        if count == 1:
            if self.steps == 3 or now >= self.again:
                self._try_all(now)
        elif self.seconds[count] > SLOWER * self.seconds[1]:
            self._use(1)
            self.again = now + self.wait
            self.wait = min(2 * self.wait, LONGEST_WAIT)
        elif self.seconds[count] < self.seconds[1]:
            self.wait = FIRST_WAIT

    def _try_all(self, now: float) -> None:
        """Has the next step computed by all threads, unless that is bound to be slower."""
        if self.crowded(self.all):
            self.again = now + FIRST_WAIT
            return
        self.again = float("inf")
        self.seconds.pop(self.all, None)
        self._use(self.all)

    @staticmethod
    def _use(count: int) -> None:
        torch.set_num_threads(count)

    def close(self) -> None:
        """Gives torch all its threads back."""
        if self.chooses:
            self._use(self.all)


def crowded(count: int) -> bool:
    """Whether other programs keep so many threads from being faster than one, right now.

    Takes about 0.05 s on a quiet machine; torch's number of threads stays as it is.
    """
    before = torch.get_num_threads()
    try:
        return _seconds(count) > CROWDED * _seconds(1)
    finally:
        torch.set_num_threads(before)


@contextmanager
def uncrowded() -> Iterator[None]:
    """One thread in the block, where other programs keep all from being faster."""
    before = torch.get_num_threads()
    if before > 1 and crowded(before):
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _seconds(count: int) -> float:
    """Of a few matrix products with so many threads; the first one is not timed."""
    torch.set_num_threads(count)
    matrix = torch.ones(512, 512)
    matrix @ matrix
    started = time.perf_counter()
    for _ in range(8):
        matrix @ matrix
    return time.perf_counter() - started


def _never(_: int) -> bool:
    return False
