"""Micro-batching: one thread runs the engine on the images that came within a short time."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forebear.engines.classifier import Classifier
from forebear.engines.engine import Pixels


class FullError(Exception):
    """The queue has no room for more images."""


class Batcher:
    """Collects images and answers them in batches, in the order in which they came."""

    def __init__(
        self,
        classifier: Classifier,
        *,
        batch: int,
        delay: float,
        queue: int,
        on_batch: Callable[[int], None] = lambda count: None,
    ) -> None:
        """Starts the thread.

        Args:
            classifier: Answers.
            batch: Most images at a time.
            delay: Seconds that the first image of a batch waits for others.
            queue: Most images that wait.
            on_batch: Takes the number of images of each batch.
        """
        self._classifier, self._batch, self._delay, self._most = classifier, batch, delay, queue
        self._on_batch = on_batch
        self._waiting: deque[tuple[float, Pixels, Future[NDArray[np.float32]]]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Images that wait."""
        return len(self._waiting)

    def submit(self, images: list[Pixels]) -> list[Future[NDArray[np.float32]]]:
        """Queues images, all of them or none, and returns the logits to come, [classes] each.

        Raises:
            FullError: They do not fit in the queue.
        """
        futures: list[Future[NDArray[np.float32]]] = [Future() for _ in images]
        with self._changed:
            if self._closed or len(self._waiting) + len(images) > self._most:
                raise FullError
            now = time.monotonic()
            self._waiting.extend(
                (now, pixels, future) for pixels, future in zip(images, futures, strict=True)
            )
            self._changed.notify()
        return futures

    def close(self) -> None:
        """Answers what waits, and ends the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            taken = self._next()
            if not taken:
                return
            futures = [future for _, _, future in taken]
            try:
                rows: Any = np.stack([pixels for _, pixels, _ in taken])
                logits = self._classifier.logits(rows)
            except Exception as error:
                for future in futures:
                    future.set_exception(error)
                continue
            self._on_batch(len(taken))
            for future, row in zip(futures, logits, strict=True):
                future.set_result(row)

    def _next(self) -> list[tuple[float, Pixels, Future[NDArray[np.float32]]]]:
        """Waits for a batch; an empty one means the end."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            while not self._closed and 0 < len(self._waiting) < self._batch:
                left = self._waiting[0][0] + self._delay - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            count = min(self._batch, len(self._waiting))
            taken = [self._waiting.popleft() for _ in range(count)]
        # A request that was given up has cancelled its future.
        return [one for one in taken if one[2].set_running_or_notify_cancel()] or (
            self._next() if taken else []
        )
