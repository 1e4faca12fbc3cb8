"""Chooses the number of compute threads: all, or one while other programs keep the CPU busy.

torch's threads wait for each other after every operation. If another program uses the cores, each
wait lasts until the scheduler returns: on two cores the speed of a ResNet-20 fell from 1,300 to 20
images per second, while one thread reached 700. The steps themselves are therefore timed, and the
faster number of threads is used.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

import torch

from forebear.hardware import processor

SLOWER = 1.3  # time with all threads, relative to one, above which one thread is used
CROWDED = 0.8  # time of products with all threads, relative to one, above which one is used
FIRST_WAIT, LONGEST_WAIT = 5.0, 80.0  # seconds until all threads are tried again, doubled each time


class ThreadTuner:
    """Times steps, each a `with` block of similar work, and sets torch's threads between them."""

    def __init__(
        self, device: torch.device, fixed: int | None = None, *, careful: bool = False
    ) -> None:
        """Sets a fixed number of threads, or the first choice.

        Args:
            device: Where the steps run; on a GPU there is nothing to choose.
            fixed: Number of threads for the whole run, for bit-identical results.
            careful: Whether to time short matrix products before a step with all threads, which
                can take a hundred times as long on a busy machine. Runs on a budget need this.

        Raises:
            ValueError: `fixed` is below 1.
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
        self.amount = 1.0  # work of a step, if steps differ; set before each
        self.seconds: dict[int, float] = {}  # per unit of work, by number of threads
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
        """Uses all threads in the next step, unless the machine is clearly too busy."""
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
        """Restores torch's number of threads."""
        if self.chooses:
            self._use(self.all)


def crowded(count: int) -> bool:
    """Whether other programs make `count` threads slower than one right now.

    Takes about 0.05 s on an idle machine, and restores torch's number of threads.
    """
    before = torch.get_num_threads()
    try:
        return _seconds(count) > CROWDED * _seconds(1)
    finally:
        torch.set_num_threads(before)


@contextmanager
def uncrowded() -> Iterator[None]:
    """Uses one thread within the context if other programs make all threads slower."""
    before = torch.get_num_threads()
    if before > 1 and crowded(before):
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _seconds(count: int) -> float:
    """Times a few matrix products with `count` threads; the first one is not timed."""
    torch.set_num_threads(count)
    matrix = torch.ones(512, 512)
    matrix @ matrix
    started = time.perf_counter()
    for _ in range(8):
        matrix @ matrix
    return time.perf_counter() - started


def _never(_: int) -> bool:
    return False
