"""The threads that decode images.

Threads suffice because Pillow releases the GIL while it decodes and resizes. Worker processes would
also have to copy their pixels to the main process.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

R = TypeVar("R")

_PART = 8  # images that a thread takes at a time
HASHED = 64  # files that a thread hashes at a time: handing over takes longer than a small file
_LOWEST = 19  # nice value of the threads that decode during training steps


class DecodingThreads:
    """Maps a function over integers in a thread pool, or without workers in this thread."""

    def __init__(self, workers: int, *, low: bool) -> None:
        self.workers = workers
        self._pool = (
            ThreadPoolExecutor(workers, "decode", _lowest_priority if low else None)
            if workers
            else None
        )

    def __enter__(self) -> DecodingThreads:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def map(
        self, function: Callable[[int], R], numbers: range, *, part: int = _PART
    ) -> Iterable[R]:
        """Returns the results in order. An exception is raised when its result is consumed.

        Args:
            function: Called from several threads.
            numbers: What it is called with.
            part: Largest number of calls that a thread takes at a time.
        """
        if self._pool is None:
            return map(function, numbers)
        size = max(1, min(part, len(numbers) // self.workers))
        parts = [numbers[start : start + size] for start in range(0, len(numbers), size)]
        done = self._pool.map(lambda part: [function(number) for number in part], parts)
        return (result for results in done for result in results)


def _lowest_priority() -> None:
    """Gives this thread the lowest priority.

    torch's threads wait for one another. On two CPU cores, another busy thread of equal priority
    makes a training step three times slower; one of the lowest priority makes it an eighth slower.
    """
    if sys.platform == "linux":  # on other systems the call affects the whole process
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST)
