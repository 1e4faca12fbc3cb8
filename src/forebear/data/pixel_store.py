"""Decodes images to square arrays in a thread pool, and caches them in memory or on disk.

Threads suffice because Pillow releases the GIL while it decodes and resizes. Worker processes would
also have to copy their pixels to the main process.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from forebear.data.choices import Bad as Bad
from forebear.data.dataset import ArrayImages, Images
from forebear.data.images.decode import Box
from forebear.data.images.preprocess import centre_box, fit
from forebear.data.pixel_cache import PixelCache, Pixels
from forebear.errors import DataError
from forebear.hardware import processor
from forebear.tables.preprocessing import Preprocessing

Indices = NDArray[np.int64]
P = TypeVar("P", np.uint8, np.float32)
R = TypeVar("R")

MOST_SKIPPED = 0.01  # largest fraction of skipped images; above it, the whole data set is suspect
FEW_SKIPPED = 5  # images that may be skipped in any data set, however small
WORTH_KEEPING = 3.0  # seconds of decoding above which the pixels are cached on disk

_VERSION = 1  # version of the decoding; a new number invalidates the cache
_CHUNK = 256  # images between two progress reports
_PART = 8  # images that a thread takes at a time
_SAMPLE = 32  # images decoded to estimate the time for all
_LOWEST = 19  # nice value of the threads that decode during training steps


class PixelStore:
    """Maps image indices [n] to pixels [n, size, size, C], resized and cropped as `fit` does.

    The dtype is uint8, or float32 if the interpolation of `rule` does not round to integers. Images
    that are arrays of this shape already are returned unchanged. Skipping an image does not
    renumber the others.
    """

    def __init__(
        self,
        images: Images,
        rule: Preprocessing,
        *,
        reduced: bool = False,
        memory: int = 2 * 2**30,
        disk: int | None = None,
        workers: int | None = None,
        bad: Bad = "fail",
        low: bool = True,
    ) -> None:
        """Creates the store without reading any image.

        Args:
            images: The images to decode.
            rule: Only its geometry is applied; values stay in 0..255.
            reduced: Decode large JPEGs at a reduced scale and resize only the crop. This is faster,
                but not bit-identical to `preprocess`.
            memory: Bytes that the images may occupy in memory.
            disk: Bytes that the cache folder may occupy. 0 disables the disk cache; None allows
                20 GiB, but at most half of the free disk space.
            workers: Decoding threads. 0 decodes in the calling thread; None starts one thread per
                CPU core.
            bad: What to do with an image that cannot be decoded: "fail" raises an error, "skip"
                leaves the image out and records the reason in `skipped`.
            low: Whether the threads that decode for `take` run at the lowest priority, so that
                they do not slow down training steps.

        Raises:
            ValueError: `workers` is negative, or `bad` is neither "fail" nor "skip".
        """
        if workers is not None and workers < 0:
            raise ValueError(
                f"workers={workers}: expected 0 or more. Pass 0 to decode in the calling thread."
            )
        if bad not in ("fail", "skip"):
            raise ValueError(f"bad={bad!r}: expected fail or skip. Pass one of these.")
        self.images = images
        self.shape = (len(images), rule.size, rule.size, rule.channels)
        self.dtype = np.dtype(np.float32 if rule.interpolation == "tf-bilinear" else np.uint8)
        size = self.dtype.itemsize * int(np.prod(self.shape, dtype=np.int64))
        self.fits = size <= memory
        self.skipped: dict[int, str] = {}
        self.bad = bad
        self._rule = rule
        self._mode = "L" if rule.channels == 1 else "RGB"
        self._reduced = (
            reduced
            and rule.resize == "shorter"
            and rule.size <= rule.side
            and rule.interpolation == "bilinear"
        )
        self._disk = disk
        self._workers = processor().cores if workers is None else workers
        self._threads = DecodingThreads(self._workers, low=low)
        self._kept: Pixels | None = None
        self._squares: Pixels | None = None  # all images, while only those in `_ready` are decoded
        self._ready = np.zeros(0, dtype=np.bool_)  # [N], which images are decoded
        untouched = rule.resize in ("shorter", "none") and rule.side == rule.size
        if untouched and isinstance(images, ArrayImages) and images.pixels.shape == self.shape:
            self._kept = images.pixels

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def kept(self) -> Pixels | None:
        """All images [N, size, size, C] if they are in memory or memory-mapped, else None."""
        return self._kept

    @property
    def indices(self) -> Indices:
        """Sorted indices [n] of the images that have not been skipped; final after `fill`."""
        return np.setdiff1d(np.arange(len(self)), list(self.skipped)).astype(np.int64)

    def __getitem__(self, indices: Sequence[int] | Indices) -> Pixels:
        """Returns a copy of the images at `indices`, in that order.

        Raises:
            DataError: One of them cannot be decoded, or was skipped before.
        """
        found, squares = self.take(indices)
        self._refuse_fewer(indices, found)
        return squares

    def take(self, indices: Sequence[int] | Indices) -> tuple[Indices, Pixels]:
        """Returns the indices [n] of those images that can be decoded, and a copy of their pixels.

        Raises:
            DataError: An image cannot be decoded and `bad` is "fail", or too many were skipped.
        """
        wanted = self._without_skipped(indices)
        if self._kept is not None:
            return wanted, self._kept[wanted]
        if self._squares is not None:
            self.read(wanted, self._threads)
            wanted = self._without_skipped(wanted)
            return wanted, self._squares[wanted]
        squares = np.empty((len(wanted), *self.shape[1:]), dtype=self.dtype)
        return self._decode(wanted, squares, self._square, self._threads)

    def crops(
        self, indices: Sequence[int] | Indices, box: Callable[[int, int, int], Box]
    ) -> NDArray[np.uint8]:
        """Returns crops uint8 [n, size, size, C] of the original images, decoded on every call.

        Args:
            indices: Indices [n] of the images.
            box: Maps an image's index, width and height in pixels to the crop: left, top, right
                and bottom. It is called from several threads.

        Raises:
            DataError: One of them cannot be decoded, or was skipped before.
        """
        found, squares = self.take_crops(indices, box)
        self._refuse_fewer(indices, found)
        return squares

    def take_crops(
        self, indices: Sequence[int] | Indices, box: Callable[[int, int, int], Box]
    ) -> tuple[Indices, NDArray[np.uint8]]:
        """Returns the indices [n] of those images that can be decoded, and their `crops`.

        Raises:
            DataError: An image cannot be decoded and `bad` is "fail", or too many were skipped.
        """

        def cut(index: int) -> NDArray[np.uint8]:
            return self._part(index, lambda width, height: box(index, width, height))

        wanted = self._without_skipped(indices)
        squares = np.empty((len(wanted), *self.shape[1:]), dtype=np.uint8)
        return self._decode(wanted, squares, cut, self._threads)

    def fill(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Decodes all images once and keeps them in memory, or on disk if they do not fit.

        A data set that takes long to decode is also cached on disk, and loaded from there the next
        time. If the disk has no room either, images are decoded on every access.

        Args:
            progress: Called in this thread with the number of images done and the total.

        Raises:
            DataError: An image cannot be decoded and `bad` is "fail", or too many were skipped.
                Nothing is cached in this case.
        """
        if self._kept is not None or not len(self):
            return
        with DecodingThreads(self._workers, low=False) as threads:  # training has not started
            quick = self.fits and self.seconds(threads) < WORTH_KEEPING
            cache = None if quick or self._disk == 0 else self._cache(threads, lambda: False)
            if cache is not None and self._recall(cache):
                if progress is not None:
                    progress(len(self), len(self))
                return
            if self.fits:
                self._kept = self._fill_memory(cache, threads, progress)
            elif cache is not None and cache.save(self._chunks(threads, progress), self.skipped):
                self._recall(cache)

    def open(self) -> None:
        """Allocates memory for the images, which `read` and `take` then fill bit by bit.

        Does nothing if all images are available already, or do not fit in memory.
        """
        if self._kept is None and self._squares is None and self.fits and len(self):
            self._squares = np.zeros(self.shape, dtype=self.dtype)
            self._ready = np.zeros(len(self), dtype=np.bool_)

    def read(self, wanted: Indices, threads: DecodingThreads) -> None:
        """Decodes those images of `wanted` that are not in memory yet, and keeps them there.

        Requires `open`, and does nothing without it. A skipped image counts as read.

        Raises:
            DataError: An image cannot be decoded and `bad` is "fail", or too many were skipped.
        """
        missing = wanted[~self._ready[wanted]]
        if not len(missing) or self._squares is None:
            return
        squares = np.empty((len(missing), *self.shape[1:]), dtype=self.dtype)
        found, pixels = self._decode(missing, squares, self._square, threads)
        self._squares[found] = pixels
        self._ready[missing] = True

    def are_read(self, indices: Indices) -> NDArray[np.bool_]:
        """Returns a mask [n] of the images that are in memory or memory-mapped."""
        if self._kept is not None:
            return np.ones(len(indices), dtype=np.bool_)
        if self._squares is None:
            return np.zeros(len(indices), dtype=np.bool_)
        return self._ready[indices]

    def close(self) -> bool:
        """Marks the store as complete if all images are read, and returns whether they are."""
        if self._squares is not None and self._ready.all():
            self._kept = self._squares  # `_squares` stays set: another thread may be reading it
        return self._kept is not None

    def recall(self, threads: DecodingThreads, ends: Callable[[], bool]) -> bool:
        """Loads all images from the disk cache, and returns whether they are available.

        Computing the cache key reads every image file. It is computed only if the cache has an
        entry of this shape.

        Args:
            threads: Threads that read the files to hash them.
            ends: Called between chunks of files; returns True to abort.

        Raises:
            DataError: The entry has skipped images and `bad` is "fail".
        """
        if self._kept is not None or not len(self):
            return True
        if self._disk == 0 or not PixelCache("", self.shape, self.dtype).has_like():
            return False
        cache = self._cache(threads, ends)
        return cache is not None and self._recall(cache)

    def save(self, threads: DecodingThreads, ends: Callable[[], bool]) -> None:
        """Writes all images to the disk cache. An aborted write leaves no entry behind.

        Args:
            threads: Threads that read the files to hash them.
            ends: Called between chunks; returns True to abort.
        """
        if self._kept is None or self._disk == 0 or isinstance(self._kept, np.memmap):
            return
        cache = self._cache(threads, ends)
        if cache is not None:
            with suppress(Abandoned):
                cache.save(_until(self._kept, ends), self.skipped)

    def _fill_memory(
        self,
        cache: PixelCache | None,
        threads: DecodingThreads,
        progress: Callable[[int, int], None] | None,
    ) -> Pixels:
        started = time.perf_counter()
        squares = np.empty(self.shape, dtype=self.dtype)
        for _ in self._chunks(threads, progress, squares):
            pass
        if cache is not None and time.perf_counter() - started >= WORTH_KEEPING:
            cache.save([squares], self.skipped)
        return squares

    def _chunks(
        self,
        threads: DecodingThreads,
        progress: Callable[[int, int], None] | None,
        squares: Pixels | None = None,
    ) -> Iterator[Pixels]:
        """Yields all images in order, in chunks. Skipped images are black.

        The chunks are slices of `squares`. Without it, one small buffer is overwritten for every
        chunk.
        """
        small = np.empty((min(_CHUNK, len(self)), *self.shape[1:]), dtype=self.dtype)
        for start in range(0, len(self), _CHUNK):
            stop = min(start + _CHUNK, len(self))
            chunk = small[: stop - start] if squares is None else squares[start:stop]
            chunk[:] = 0
            self._decode(np.arange(start, stop), chunk, self._square, threads)
            if progress is not None:
                progress(stop, len(self))
            yield chunk

    def _recall(self, cache: PixelCache) -> bool:
        """Loads the images from the cache entry, and returns whether it exists.

        Raises:
            DataError: The entry has skipped images and `bad` is "fail".
        """
        found = cache.load()
        if found is None:
            return False
        pixels, skipped = found
        if skipped and self.bad == "fail":
            raise DataError(next(iter(skipped.values())))
        self._kept = pixels
        self.skipped.update(skipped)
        return True

    def _cache(self, threads: DecodingThreads, ends: Callable[[], bool]) -> PixelCache | None:
        """Returns the cache entry, keyed by image contents, order and geometry; None if aborted."""
        rule = self._rule
        total = hashlib.sha256()
        for part in (
            *(_VERSION, PIL.__version__, self.shape, self.dtype.name, self._reduced),
            *(rule.resize, rule.side, rule.central, rule.interpolation),
        ):
            total.update(f"{part}\0".encode())
        for start in range(0, len(self), _CHUNK):
            if ends():
                return None
            for digest in threads.map(self._digest, range(start, min(start + _CHUNK, len(self)))):
                total.update(digest)
        return PixelCache(total.hexdigest()[:32], self.shape, self.dtype, self._disk)

    def _digest(self, index: int) -> bytes:
        try:
            return self.images.digest(index)
        except DataError:  # decoding the image will raise it again
            return bytes(32)

    def seconds(self, threads: DecodingThreads) -> float:
        """Estimates the seconds that decoding all images takes, by decoding a few of them."""
        started = time.perf_counter()
        sample = np.unique(np.linspace(0, len(self) - 1, _SAMPLE).astype(np.int64))
        squares = np.empty((len(sample), *self.shape[1:]), dtype=self.dtype)
        self._decode(sample, squares, self._square, threads)
        return (time.perf_counter() - started) / len(sample) * len(self)

    def _decode(
        self,
        wanted: Indices,
        squares: NDArray[P],
        decode: Callable[[int], Pixels],
        threads: DecodingThreads,
    ) -> tuple[Indices, NDArray[P]]:
        """Decodes into `squares`, and returns the entries of both arrays that could be decoded."""

        def one(place: int) -> DataError | None:
            try:
                squares[place] = decode(int(wanted[place]))
            except DataError as error:
                return error
            return None

        good = np.ones(len(wanted), dtype=np.bool_)
        for place, error in enumerate(threads.map(one, range(len(wanted)))):
            if error is not None:
                self._skip(int(wanted[place]), error)
                good[place] = False
        return (wanted, squares) if good.all() else (wanted[good], squares[good])

    def _skip(self, index: int, error: DataError) -> None:
        if self.bad == "fail":
            raise error
        self.skipped[index] = str(error)
        if len(self.skipped) > max(FEW_SKIPPED, MOST_SKIPPED * len(self)):
            raise DataError(
                f"{len(self.skipped)} of {len(self)} images cannot be decoded; the last error was: "
                f"{error} Expected at most {MOST_SKIPPED:.0%}, or {FEW_SKIPPED} in a small data "
                "set. Run forebear check to list them all."
            )

    def _square(self, index: int) -> Pixels:
        if self._reduced:
            return self._part(index, lambda width, height: centre_box(width, height, self._rule))
        return fit(self.images.image(index), self._rule)

    def _part(self, index: int, choose: Callable[[int, int], Box]) -> NDArray[np.uint8]:
        image: Image.Image = self.images.part(index, choose, self._rule.size)
        pixels = np.asarray(image if image.mode == self._mode else image.convert(self._mode))
        return pixels[:, :, None] if pixels.ndim == 2 else pixels

    def _without_skipped(self, indices: Sequence[int] | Indices) -> Indices:
        wanted = np.asarray(indices, dtype=np.int64)
        return wanted[~np.isin(wanted, list(self.skipped))] if self.skipped else wanted

    def _refuse_fewer(self, indices: Sequence[int] | Indices, found: Indices) -> None:
        if len(found) < len(indices):
            gone = next(int(i) for i in indices if int(i) in self.skipped)
            raise DataError(self.skipped[gone])


class Abandoned(Exception):  # noqa: N818 it is no error
    """Raised to abort writing a cache entry."""


def _until(pixels: Pixels, ends: Callable[[], bool]) -> Iterator[Pixels]:
    """Yields the images in chunks.

    Raises:
        Abandoned: `ends` returned True.
    """
    for start in range(0, len(pixels), _CHUNK):
        if ends():
            raise Abandoned
        yield pixels[start : start + _CHUNK]


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

    def map(self, function: Callable[[int], R], numbers: range) -> Iterable[R]:
        """Returns the results in order. An exception is raised when its result is consumed."""
        if self._pool is None:
            return map(function, numbers)
        size = max(1, min(_PART, len(numbers) // self.workers))
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
