"""Counters and histograms in Prometheus' text format, version 0.0.4.

https://prometheus.io/docs/instrumenting/exposition_formats
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
IMAGES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)


class _Histogram:
    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds, self.counts, self.sum = bounds, [0] * (len(bounds) + 1), 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def lines(self, name: str) -> list[str]:
        total, found = 0, []
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            total += count
            found.append(f'{name}_bucket{{le="{bound}"}} {total}')
        return [*found, f"{name}_sum {self.sum}", f"{name}_count {total}"]


class Metrics:
    """The numbers of one server. All methods may be called from any thread."""

    def __init__(self, waiting: Callable[[], int]) -> None:
        """Begins with zeros.

        Args:
            waiting: Returns the number of images in the queue.
        """
        self._lock, self._waiting = threading.Lock(), waiting
        self._requests: dict[tuple[str, int], int] = {}
        self._seconds, self._batches = _Histogram(SECONDS), _Histogram(IMAGES)

    def request(self, path: str, status: int, seconds: float) -> None:
        """Counts a request.

        Args:
            path: Of the route, not of the request: few values.
            status: The HTTP status.
            seconds: From the request to the answer.
        """
        with self._lock:
            key = (path, status)
            self._requests[key] = self._requests.get(key, 0) + 1
            self._seconds.add(seconds)

    def batch(self, images: int) -> None:
        """Counts a batch."""
        with self._lock:
            self._batches.add(images)

    def text(self) -> str:
        """Returns all numbers."""
        with self._lock:
            requests = [
                f'forebear_requests_total{{path="{path}",code="{code}"}} {count}'
                for (path, code), count in sorted(self._requests.items())
            ]
            lines = [
                "# HELP forebear_requests_total Requests by route and status.",
                "# TYPE forebear_requests_total counter",
                *requests,
                "# HELP forebear_request_seconds Time from a request to its answer.",
                "# TYPE forebear_request_seconds histogram",
                *self._seconds.lines("forebear_request_seconds"),
                "# HELP forebear_batch_images Images per batch.",
                "# TYPE forebear_batch_images histogram",
                *self._batches.lines("forebear_batch_images"),
                "# HELP forebear_queue_images Images that wait for the engine.",
                "# TYPE forebear_queue_images gauge",
                f"forebear_queue_images {self._waiting()}",
            ]
        return "\n".join(lines) + "\n"
