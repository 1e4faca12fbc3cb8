"""Reads the images of a store in parts: some before training, the rest in the background."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from forebear.data.decoder import Indices
from forebear.data.decoding_threads import DecodingThreads
from forebear.data.pixel_store import WORTH_KEEPING, PixelStore

_FEW = 8  # images in the first chunk, whose time determines the size of the next
_MOST = 256  # most images in a chunk
_PIECE = 0.25  # seconds that a chunk should take, so that the thread stops soon after `stop`
_LINGER = 1.0  # seconds that `stop` waits for the thread


class Reading:
    """The images of a store in a given order, of which the first `count` are available.

    All images are available from the start if they are in memory or on disk already, or if they do
    not fit in memory and are decoded on every access.
    """

    def __init__(
        self, store: PixelStore, order: Indices, *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """Opens the store without reading any image.

        Args:
            store: Store whose images are read.
            order: Indices [n] of the images, in the order in which they are read.
            clock: Returns the time in seconds, like `time.perf_counter`.
        """
        self.store, self.order, self.clock = store, order, clock
        store.open()
        self.count = 0 if store.fits and store.kept is None else len(order)
        self.error: Exception | None = None  # raised in the background thread
        self._image = 0.0  # seconds per image in the last chunk

    @property
    def done(self) -> bool:
        """Whether all images of the order are available."""
        return self.count == len(self.order)

    @property
    def seconds(self) -> float:
        """Seconds per image in the last chunk, or 0 before the first one."""
        return self._image

    def available(self) -> Indices:
        """Returns the indices [n] of the images read so far, in reading order.

        Raises:
            Exception: The exception that stopped the background thread, such as a DataError for an
                image that cannot be decoded.
        """
        if self.error is not None:
            raise self.error
        return self.order[: self.count]

    def first(
        self,
        threads: DecodingThreads,
        until: float,
        least: int,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Reads images until a deadline, but at least `least` of them.

        Args:
            threads: Threads that decode.
            until: Deadline, on the time scale of `clock`.
            least: Number of images to read even if that takes longer.
            progress: Called with the number of images done and the total.

        Raises:
            DataError: An image cannot be decoded and the store's `bad` is "fail", or too many were
                skipped.
        """
        while not self.done and (self.count < least or self.clock() < until):
            room = until - self.clock()
            if self.count < least:
                self._read(threads, min(self._piece(room), least - self.count))
            else:
                self._read(threads, self._piece(room))
            if progress is not None:
                progress(self.count, len(self.order))
        self.store.close()

    def rest(self, threads: DecodingThreads, ends: Callable[[], bool]) -> None:
        """Reads the remaining images until all are read or `ends` returns True."""
        while not self.done and not ends():
            self._read(threads, self._piece(_PIECE))
        self.store.close()

    def _piece(self, seconds: float) -> int:
        """Returns how many images to read in `seconds`; a few if the speed is not known yet."""
        if not self._image:
            return _FEW
        return max(1, min(_MOST, int(min(seconds, _PIECE) / self._image)))

    def _read(self, threads: DecodingThreads, count: int) -> None:
        wanted = self.order[self.count : self.count + count]
        started = self.clock()
        self.store.read(wanted, threads)
        self._image = (self.clock() - started) / len(wanted)
        self.count += len(wanted)


class BackgroundReader:
    """A low-priority thread that finishes several readings, one after the other.

    A data set that took long to decode is then cached on disk, completely or not at all.
    """

    def __init__(self, readings: Sequence[Reading], workers: int, *, keeps: bool = True) -> None:
        """Creates the thread without starting it.

        Args:
            readings: Readings to finish. Errors are reported through the first one.
            workers: Decoding threads. With 0, nothing is read in the background.
            keeps: Whether to write the images to the disk cache.
        """
        self.readings, self.workers, self.keeps = readings, workers, keeps
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="read", daemon=True)

    def start(self) -> None:
        """Starts the thread. Without workers, images are decoded on access instead."""
        if self.workers:
            self._thread.start()
            return
        for reading in self.readings:  # the steps decode the images that they need
            reading.count = len(reading.order)

    def stop(self) -> None:
        """Stops the thread after its current chunk. An unfinished cache entry is deleted."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(_LINGER)

    def _run(self) -> None:
        try:
            with DecodingThreads(self.workers, low=True) as threads:
                for reading in self.readings:
                    started = reading.seconds
                    reading.rest(threads, self._ended.is_set)
                    whole = (reading.seconds or started) * len(reading.store)
                    if self.keeps and reading.done and whole >= WORTH_KEEPING:
                        reading.store.save(threads, self._ended.is_set)
        except Exception as error:
            if not self._ended.is_set():  # after `stop`, interpreter shutdown can raise anything
                self.readings[0].error = error
