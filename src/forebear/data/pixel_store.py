"""The pixels of a data set, decoded once and kept in memory or on disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from forebear.data.choices import Bad
from forebear.data.dataset import ArrayImages, Images
from forebear.data.decoder import Decoder, Indices
from forebear.data.decoding_threads import DecodingThreads
from forebear.data.images.bands import to_bytes
from forebear.data.images.decode import Box
from forebear.data.pixel_cache import PixelCache, Pixels
from forebear.errors import DataError
from forebear.hardware import processor
from forebear.tables.preprocessing import Preprocessing

WORTH_KEEPING = 3.0  # seconds of decoding above which the pixels are cached on disk
_CHUNK = 256  # images between two looks at whether to abort


class PixelStore:
    """Maps image indices [n] to pixels [n, H, W, C], resized and cropped as `fit` does.

    The dtype is uint8, or float32 if the interpolation of `rule` does not round to integers. Images
    that are arrays of this shape already are returned unchanged.

    Attributes:
        shape: [N, H, W, C].
        dtype: Of the pixels.
        fits: Whether all images fit in memory.
        kept: All images [N, H, W, C] if they are in memory or memory-mapped, else None.
        skipped: Maps the index of each image that cannot be decoded to the reason.
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
            reduced: See `Decoder`.
            memory: Bytes that the images may occupy in memory.
            disk: Bytes that the cache folder may occupy. 0 disables the disk cache; None allows
                20 GiB, but at most half of the free disk space.
            workers: Decoding threads. 0 decodes in the calling thread; None starts one thread per
                CPU core.
            bad: What to do with an image that cannot be decoded; see `Decoder`.
            low: Whether the threads that decode for `take` run at the lowest priority, so that
                they do not slow down training steps.

        Raises:
            ValueError: `workers` is negative, or `bad` is neither "fail" nor "skip".
        """
        _check(workers, bad)
        self.images, self.bad = images, bad
        self.decoder = Decoder(images, rule, reduced=reduced, bad=bad)
        self.shape, self.dtype = self.decoder.shape, self.decoder.dtype
        self.skipped = self.decoder.skipped
        self.fits = self.dtype.itemsize * int(np.prod(self.shape, dtype=np.int64)) <= memory
        self.kept: Pixels | None = None
        untouched = rule.resize != "central" and rule.side == rule.size
        if untouched and isinstance(images, ArrayImages) and images.pixels.shape == self.shape:
            self.kept = to_bytes(images.pixels, rule.levels)
        self._disk, self._workers = disk, processor().cores if workers is None else workers
        self._threads = DecodingThreads(self._workers, low=low)
        self._squares: Pixels | None = None  # all images, while only those in `_ready` are decoded
        self._ready = np.zeros(0, dtype=np.bool_)  # [N], which images are decoded

    def __len__(self) -> int:
        return self.shape[0]

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
        if len(found) < len(indices):
            raise DataError(next(self.skipped[int(i)] for i in indices if int(i) in self.skipped))
        return squares

    def take(self, indices: Sequence[int] | Indices) -> tuple[Indices, Pixels]:
        """Returns the indices [n] of those images that can be decoded, and a copy of their pixels.

        Raises:
            DataError: An image cannot be decoded and `bad` is "fail", or too many were skipped.
        """
        wanted = self.decoder.without_skipped(indices)
        if self.kept is not None:
            return wanted, self.kept[wanted]
        if self._squares is not None:
            self.read(wanted, self._threads)
            wanted = self.decoder.without_skipped(wanted)
            return wanted, self._squares[wanted]
        return self.decoder.squares(wanted, self._threads)

    def take_crops(
        self, indices: Sequence[int] | Indices, box: Callable[[int, int, int], Box]
    ) -> tuple[Indices, NDArray[np.uint8]]:
        """Returns the indices [n] of those images that can be decoded, and `Decoder.crops` of them.

        Images are decoded on every call.

        Raises:
            DataError: An image cannot be decoded and `bad` is "fail", or too many were skipped.
        """
        return self.decoder.crops(self.decoder.without_skipped(indices), box, self._threads)

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
        if self.kept is not None or not len(self):
            return
        with DecodingThreads(self._workers, low=False) as threads:  # training has not started
            quick = self.fits and self.decoder.seconds(threads) < WORTH_KEEPING
            uses = not quick and self._disk != 0
            cache = _entry(self.decoder, self._disk, threads, lambda: False) if uses else None
            self.kept = _loaded(cache, self.decoder)
            if self.kept is not None:
                if progress is not None:
                    progress(len(self), len(self))
            elif self.fits:
                started, squares = time.perf_counter(), np.empty(self.shape, dtype=self.dtype)
                for _ in self.decoder.chunks(threads, progress, squares):
                    pass
                if cache is not None and time.perf_counter() - started >= WORTH_KEEPING:
                    cache.save([squares], self.skipped)
                self.kept = squares
            elif cache and cache.save(self.decoder.chunks(threads, progress), self.skipped):
                self.kept = _loaded(cache, self.decoder)

    def open(self) -> None:
        """Allocates memory for the images, which `read` and `take` then fill bit by bit.

        Does nothing if all images are available already, or do not fit in memory.
        """
        if self.kept is None and self._squares is None and self.fits and len(self):
            self._squares = np.zeros(self.shape, dtype=self.dtype)
            self._ready = np.zeros(len(self), dtype=np.bool_)

    def read(self, wanted: Indices, threads: DecodingThreads) -> None:
        """Decodes those images of `wanted` that are not in memory yet, and keeps them there.

        Requires `open`, and does nothing without it. A skipped image counts as read.

        Raises:
            DataError: An image cannot be decoded and `bad` is "fail", or too many were skipped.
        """
        missing = wanted[~self._ready[wanted]] if self._squares is not None else wanted[:0]
        if len(missing) and self._squares is not None:
            found, pixels = self.decoder.squares(missing, threads)
            self._squares[found] = pixels
            self._ready[missing] = True

    def close(self) -> bool:
        """Marks the store as complete if all images are read, and returns whether they are."""
        if self._squares is not None and self._ready.all():
            self.kept = self._squares  # `_squares` stays set: another thread may be reading it
        return self.kept is not None

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
        if self.kept is not None or not len(self):
            return True
        if self._disk == 0 or not PixelCache("", self.shape, self.dtype).has_like():
            return False
        self.kept = _loaded(_entry(self.decoder, self._disk, threads, ends), self.decoder)
        return self.kept is not None

    def save(self, threads: DecodingThreads, ends: Callable[[], bool]) -> None:
        """Writes all images to the disk cache. An aborted write leaves no entry behind.

        Args:
            threads: Threads that read the files to hash them.
            ends: Called between chunks; returns True to abort.
        """
        if self.kept is None or self._disk == 0 or isinstance(self.kept, np.memmap):
            return
        cache = _entry(self.decoder, self._disk, threads, ends)
        if cache is not None:
            with suppress(Abandoned):
                cache.save(_until(self.kept, ends), self.skipped)


def _check(workers: int | None, bad: str) -> None:
    if workers is not None and workers < 0:
        raise ValueError(
            f"workers={workers}: expected 0 or more. Pass 0 to decode in the calling thread."
        )
    if bad not in ("fail", "skip"):
        raise ValueError(f"bad={bad!r}: expected fail or skip. Pass one of these.")


def _entry(
    decoder: Decoder, disk: int | None, threads: DecodingThreads, ends: Callable[[], bool]
) -> PixelCache | None:
    """Returns the cache entry of the decoder's images; None if aborted."""
    key = decoder.key(threads, ends)
    return None if key is None else PixelCache(key, decoder.shape, decoder.dtype, disk)


def _loaded(cache: PixelCache | None, decoder: Decoder) -> Pixels | None:
    """Returns the images of a cache entry, whose skipped images the decoder then skips too.

    Returns:
        None if there is no such entry.

    Raises:
        DataError: The entry has skipped images and the decoder's `bad` is "fail".
    """
    found = None if cache is None else cache.load()
    if found is None:
        return None
    pixels, skipped = found
    if skipped and decoder.bad == "fail":
        raise DataError(next(iter(skipped.values())))
    decoder.skipped.update(skipped)
    return pixels


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
