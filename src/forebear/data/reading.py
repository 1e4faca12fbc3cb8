"""Images of a store read in parts: some before the training, the rest beside it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from forebear.data.pixel_store import WORTH_KEEPING, DecodingThreads, Indices, PixelStore

_FEW = 8  # images in the first piece, whose time decides on the size of the next
_MOST = 256  # images in a piece
_PIECE = 0.25  # seconds that a piece should take, so that a reading ends soon after it is told to
_LINGER = 1.0  # seconds that the end of a run waits for the thread that reads


class Reading:
    """The images of a store in a given order, of which the first `count` are in memory.

    Where all images are in memory or on disk, or where they do not fit in memory and are decoded
    when they are needed, all count from the start.
    """

    def __init__(
        self, store: PixelStore, order: Indices, *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """Reads nothing yet.

        Args:
            store: whose images are read.
            order: [n] of them, in the order in which they are read.
            clock: seconds, as `time.perf_counter`.
        """
        self.store, self.order, self.clock = store, order, clock
        store.open()
        self.count = 0 if store.fits and store.kept is None else len(order)
        self.error: Exception | None = None  # that the thread beside the training met
        self._image = 0.0  # seconds an image, of the last piece

    @property
    def done(self) -> bool:
        """Whether all images of the order can be had without waiting."""
        return self.count == len(self.order)

    @property
    def seconds(self) -> float:
        """Seconds that an image took to decode, as measured last; 0 where none was."""
        return self._image

    def available(self) -> Indices:
        """[n]: the images that are read so far, in the order of the reading.

        Raises:
            Exception: the one that ended the reading, such as a DataError for an image that
                cannot be decoded.
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
        """Reads images until a time, but so many at least.

        Args:
            threads: that decode.
            until: as `clock` counts.
            least: images that are read however long that takes.
            progress: called with the number of images done and of all.

        Raises:
            DataError: an image cannot be decoded, and none may be skipped, or too many were.
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
        """Reads the images that are left, until it ends."""
        while not self.done and not ends():
            self._read(threads, self._piece(_PIECE))
        self.store.close()

    def _piece(self, seconds: float) -> int:
        """Images that can be read in so many seconds; few where that is not known."""
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
    """One thread of low priority that reads what is left of several readings, in order.

    Sets that took long to decode are then kept on disk, whole or not at all.
    """

    def __init__(self, readings: Sequence[Reading], workers: int, *, keeps: bool = True) -> None:
        """Reads nothing yet.

        Args:
            readings: of which the first one's users are told of errors.
            workers: threads that decode; with 0 nothing is read beside the training.
            keeps: whether sets are written to the cache folder.
        """
        self.readings, self.workers, self.keeps = readings, workers, keeps
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="read", daemon=True)

    def start(self) -> None:
        """Begins to read."""
        if self.workers:
            self._thread.start()
            return
        for reading in self.readings:  # images are decoded between the steps that need them
            reading.count = len(reading.order)

    def stop(self) -> None:
        """Ends the thread after the images that it is at; a set half written is removed."""
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
            if not self._ended.is_set():  # else the interpreter may be ending, and its threads too
                self.readings[0].error = error
