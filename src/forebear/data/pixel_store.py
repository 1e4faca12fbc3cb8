"""Pictures as square uint8 arrays, decoded by a pool of threads and kept where there is room.

Threads, as Pillow lets go of the interpreter lock while it decodes and resizes, and as processes
would have to hand their pixels over.
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
from typing import Literal, TypeVar

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from forebear.data.dataset import ArrayImages, Images
from forebear.data.images.decode import Box
from forebear.data.images.preprocess import centre_box, fit
from forebear.data.pixel_cache import PixelCache, Pixels
from forebear.errors import DataError
from forebear.hardware import processor
from forebear.tables.preprocessing import Preprocessing

Bad = Literal["fail", "skip"]
Indices = NDArray[np.int64]
P = TypeVar("P", np.uint8, np.float32)
R = TypeVar("R")

MOST_SKIPPED = 0.01  # share of a set; with more, the set is at fault and not a picture
FEW_SKIPPED = 5  # pictures that may be skipped of any set, however small
WORTH_KEEPING = 3.0  # seconds of decoding, from which on the pixels are kept on disk

_VERSION = 1  # of how pictures become pixels; a new one leaves what was kept aside
_CHUNK = 256  # pictures between two reports of progress
_PART = 8  # pictures that a thread takes at a time
_SAMPLE = 32  # pictures decoded to tell how long all will take
_LOWEST = 19  # priority of threads that decode beside a training step


class PixelStore:
    """Indexed by picture numbers [n], gives uint8 [n, size, size, C] as a rule's `fit` does.

    float32 where the rule does not round between pixels. Pictures that are arrays of this very
    shape are handed on untouched. Numbers stay those of the set, whichever pictures are skipped.
    """

    def __init__(
        self,
        pictures: Images,
        rule: Preprocessing,
        *,
        reduced: bool = False,
        memory: int = 2 * 2**30,
        disk: int | None = None,
        workers: int | None = None,
        bad: Bad = "fail",
        low: bool = True,
    ) -> None:
        """Reads nothing yet.

        Args:
            pictures: What to decode.
            rule: Its geometry is carried out; values stay in 0..255.
            reduced: Decode large JPEGs at a reduced scale first and resize the crop alone: faster,
                and not to the last bit what `preprocess` gives.
            memory: Bytes that `fill` may take.
            disk: Bytes that the cache folder may take; 0 keeps nothing there, None up to 20 GiB
                and half of what is free.
            workers: Threads that decode; 0 decodes in the thread that asks, None takes as many as
                there are processors.
            bad: What becomes of a picture that cannot be decoded: an error, or it is skipped,
                counted and named in `skipped`. It is never replaced by another.
            low: Whether the threads that decode for `take` give way to all else, as they should
                beside training steps.

        Raises:
            ValueError: `workers` is below 0, or `bad` is neither.
        """
        if workers is not None and workers < 0:
            raise ValueError(f"workers={workers}: expected 0 or more. Pass 0 for no threads.")
        if bad not in ("fail", "skip"):
            raise ValueError(f"bad={bad!r}: expected fail or skip. Pass one of these.")
        self.pictures = pictures
        self.shape = (len(pictures), rule.size, rule.size, rule.channels)
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
        self._beside = DecodingThreads(self._workers, low=low)
        self._kept: Pixels | None = None
        self._squares: Pixels | None = None  # images that were read so far, while not all are
        self._ready = np.zeros(0, dtype=np.bool_)  # [N], which images these are
        untouched = rule.resize in ("shorter", "none") and rule.side == rule.size
        if untouched and isinstance(pictures, ArrayImages) and pictures.pixels.shape == self.shape:
            self._kept = pictures.pixels

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def kept(self) -> Pixels | None:
        """[N, size, size, C]: all pictures, where they lie in memory or in a mapped file."""
        return self._kept

    @property
    def indices(self) -> Indices:
        """[n], rising: the pictures that were not skipped so far; after `fill`, all that can be."""
        return np.setdiff1d(np.arange(len(self)), list(self.skipped)).astype(np.int64)

    def __getitem__(self, indices: Sequence[int] | Indices) -> Pixels:
        """A copy of these pictures, in this order.

        Raises:
            DataError: One of them cannot be decoded, or was skipped before.
        """
        found, squares = self.take(indices)
        self._refuse_fewer(indices, found)
        return squares

    def take(self, indices: Sequence[int] | Indices) -> tuple[Indices, Pixels]:
        """Those of these pictures that can be decoded: their numbers [n], and a copy of each.

        Raises:
            DataError: A picture cannot be decoded, and none may be skipped, or too many were.
        """
        wanted = self._without_skipped(indices)
        if self._kept is not None:
            return wanted, self._kept[wanted]
        if self._squares is not None:
            self.read(wanted, self._beside)
            wanted = self._without_skipped(wanted)
            return wanted, self._squares[wanted]
        squares = np.empty((len(wanted), *self.shape[1:]), dtype=self.dtype)
        return self._decode(wanted, squares, self._square, self._beside)

    def crops(
        self, indices: Sequence[int] | Indices, box: Callable[[int, int, int], Box]
    ) -> NDArray[np.uint8]:
        """Parts of whole pictures, in this order: uint8 [n, size, size, C], decoded anew.

        Args:
            indices: Pictures [n].
            box: Told a picture's number, its width and its height in pixels, it says which part:
                left, top, right and bottom. Called from several threads.

        Raises:
            DataError: One of them cannot be decoded, or was skipped before.
        """
        found, squares = self.take_crops(indices, box)
        self._refuse_fewer(indices, found)
        return squares

    def take_crops(
        self, indices: Sequence[int] | Indices, box: Callable[[int, int, int], Box]
    ) -> tuple[Indices, NDArray[np.uint8]]:
        """As `crops`, of those pictures that can be decoded: their numbers [n], and the parts.

        Raises:
            DataError: A picture cannot be decoded, and none may be skipped, or too many were.
        """

        def cut(index: int) -> NDArray[np.uint8]:
            return self._part(index, lambda width, height: box(index, width, height))

        wanted = self._without_skipped(indices)
        squares = np.empty((len(wanted), *self.shape[1:]), dtype=np.uint8)
        return self._decode(wanted, squares, cut, self._beside)

    def fill(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Decodes all pictures once and keeps them in memory, or on disk when they do not fit.

        What took long to decode is kept on disk in any case, and read from there the next time.
        Where the disk has no room either, nothing is kept and pictures are decoded as asked for.

        Args:
            progress: Called in this thread with the number of pictures done and of all.

        Raises:
            DataError: A picture cannot be decoded, and none may be skipped, or too many cannot.
                Nothing is kept then.
        """
        if self._kept is not None or not len(self):
            return
        with DecodingThreads(
            self._workers, low=False
        ) as threads:  # no training step to give way to yet
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
        """Makes room for images that `read` and `take` will decode one after the other.

        Does nothing where all images are kept already, or do not fit in memory.
        """
        if self._kept is None and self._squares is None and self.fits and len(self):
            self._squares = np.zeros(self.shape, dtype=self.dtype)
            self._ready = np.zeros(len(self), dtype=np.bool_)

    def read(self, wanted: Indices, threads: DecodingThreads) -> None:
        """Decodes those of these images that were not read before, and keeps them in memory.

        Only after `open`. Images that cannot be decoded count as read.

        Raises:
            DataError: An image cannot be decoded, and none may be skipped, or too many were.
        """
        missing = wanted[~self._ready[wanted]]
        if not len(missing) or self._squares is None:
            return
        squares = np.empty((len(missing), *self.shape[1:]), dtype=self.dtype)
        found, pixels = self._decode(missing, squares, self._square, threads)
        self._squares[found] = pixels
        self._ready[missing] = True

    def are_read(self, indices: Indices) -> NDArray[np.bool_]:
        """[n]: which of these images need not be decoded any more."""
        if self._kept is not None:
            return np.ones(len(indices), dtype=np.bool_)
        if self._squares is None:
            return np.zeros(len(indices), dtype=np.bool_)
        return self._ready[indices]

    def close(self) -> bool:
        """Ends what `open` began, if all images are read; whether they are."""
        if self._squares is not None and self._ready.all():
            self._kept = self._squares  # which stays: another thread may be looking at it
        return self._kept is not None

    def recall(self, threads: DecodingThreads, ends: Callable[[], bool]) -> bool:
        """Takes all images from the disk, if an earlier run kept them there.

        Files are read for that only if a set of this shape lies in the cache folder.

        Args:
            threads: That read the files, to compare them.
            ends: Whether to give up, asked between the files.

        Raises:
            DataError: Some of them cannot be decoded, and none may be skipped.
        """
        if self._kept is not None or not len(self):
            return True
        if self._disk == 0 or not PixelCache("", self.shape, self.dtype).has_like():
            return False
        cache = self._cache(threads, ends)
        return cache is not None and self._recall(cache)

    def save(self, threads: DecodingThreads, ends: Callable[[], bool]) -> None:
        """Writes all images to the cache folder, whole or not at all.

        Args:
            threads: That read the files, to name the set.
            ends: Whether to give up, asked between the pieces.
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
        """All pictures in order, decoded into one small array again and again, or into `squares`.

        The place of a skipped picture is black.
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
        """Takes what the cache has, if it has all that this store may give."""
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
        """The place for these very pictures, in this order and geometry; None once it ends."""
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
            return self.pictures.digest(index)
        except DataError:  # it will be met again when it is decoded
            return bytes(32)

    def seconds(self, threads: DecodingThreads) -> float:
        """How long all pictures will take to decode, by a few of them."""
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
        """Fills `squares`, and gives back the part of both that could be decoded."""

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
                f"{len(self.skipped)} of {len(self)} pictures cannot be decoded, the last one: "
                f"{error} Expected at most {MOST_SKIPPED:.0%}, or {FEW_SKIPPED} of a small set. "
                "Run forebear check to list them all."
            )

    def _square(self, index: int) -> Pixels:
        if self._reduced:
            return self._part(index, lambda width, height: centre_box(width, height, self._rule))
        return fit(self.pictures.picture(index), self._rule)

    def _part(self, index: int, choose: Callable[[int, int], Box]) -> NDArray[np.uint8]:
        image: Image.Image = self.pictures.part(index, choose, self._rule.size)
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
    """A set is no longer to be written."""


def _until(pixels: Pixels, ends: Callable[[], bool]) -> Iterator[Pixels]:
    """The images in pieces.

    Raises:
        Abandoned: it ends.
    """
    for start in range(0, len(pixels), _CHUNK):
        if ends():
            raise Abandoned
        yield pixels[start : start + _CHUNK]


class DecodingThreads:
    """Maps a function over numbers, in threads or, with none, here."""

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
        """The results in order; what a call raises is raised when its result is due."""
        if self._pool is None:
            return map(function, numbers)
        size = max(1, min(_PART, len(numbers) // self.workers))
        parts = [numbers[start : start + size] for start in range(0, len(numbers), size)]
        done = self._pool.map(lambda part: [function(number) for number in part], parts)
        return (result for results in done for result in results)


def _lowest_priority() -> None:
    """Gives way to all else, for this thread alone.

    torch's threads wait for one another: a neighbour of equal priority on two processors makes a
    training step three times slower, one of the lowest by an eighth.
    """
    if sys.platform == "linux":  # elsewhere the call means the whole process
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST)
