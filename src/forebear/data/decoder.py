"""Decodes the images of a data set to one size, and skips those that cannot be decoded."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from forebear.data.choices import Bad
from forebear.data.dataset import Images, for_rule
from forebear.data.decoding_threads import HASHED, DecodingThreads
from forebear.data.images.decode import Box
from forebear.data.images.large import GATE
from forebear.data.images.preprocess import centre_box, fit
from forebear.data.pixel_cache import Pixels
from forebear.errors import DataError
from forebear.tables.preprocessing import Preprocessing

Indices = NDArray[np.int64]
P = TypeVar("P", np.uint8, np.float32)

MOST_SKIPPED = 0.01  # largest fraction of skipped images; above it, the whole data set is suspect
FEW_SKIPPED = 5  # images that may be skipped in any data set, however small

_VERSION = 1  # version of the decoding; a new number invalidates the cache
_CHUNK = 256  # images between two progress reports
_SAMPLE = 32  # images decoded to estimate the time for all


class Decoder:
    """Decodes images to arrays [H, W, C], resized and cropped as `fit` does.

    Skipping an image does not renumber the others.
    """

    def __init__(
        self, images: Images, rule: Preprocessing, *, reduced: bool = False, bad: Bad = "fail"
    ) -> None:
        """Decodes nothing yet.

        Args:
            images: The images to decode.
            rule: Only its geometry is applied; values stay in 0..255.
            reduced: Decode large JPEGs at a reduced scale and resize only the crop. This is faster,
                but not bit-identical to `preprocess`.
            bad: What to do with an image that cannot be decoded: "fail" raises an error, "skip"
                leaves the image out and records the reason in `skipped`.
        """
        self.images, self.rule, self.bad = for_rule(images, rule), rule, bad
        self.shape = (len(images), *rule.shape, rule.channels)
        self.dtype = np.dtype(np.float32 if rule.interpolation == "tf-bilinear" else np.uint8)
        self.skipped: dict[int, str] = {}
        self._mode = "L" if rule.channels == 1 else "RGB"
        self._reduced = (
            reduced
            and rule.resize == "shorter"
            and rule.size <= rule.side
            and rule.interpolation == "bilinear"
        )

    def squares(self, wanted: Indices, threads: DecodingThreads) -> tuple[Indices, Pixels]:
        """Returns the indices [n] of those images that can be decoded, and their pixels.

        Raises:
            DataError: An image cannot be decoded and `bad` is "fail", or too many were skipped.
        """
        out = np.empty((len(wanted), *self.shape[1:]), dtype=self.dtype)
        return self._decode(wanted, out, self._square, threads)

    def crops(
        self, wanted: Indices, box: Callable[[int, int, int], Box], threads: DecodingThreads
    ) -> tuple[Indices, NDArray[np.uint8]]:
        """Returns the indices [n] of those images that can be decoded, and crops of them.

        Args:
            wanted: Indices of images.
            box: Maps an image's index, width and height in pixels to the crop: left, top, right
                and bottom. It is called from several threads.
            threads: Threads that decode.

        Returns:
            Indices [n], and crops uint8 [n, H, W, C] of the original images.

        Raises:
            DataError: An image cannot be decoded and `bad` is "fail", or too many were skipped.
        """

        def cut(index: int) -> NDArray[np.uint8]:
            return self._part(index, lambda width, height: box(index, width, height))

        out = np.empty((len(wanted), *self.shape[1:]), dtype=np.uint8)
        return self._decode(wanted, out, cut, threads)

    def chunks(
        self,
        threads: DecodingThreads,
        progress: Callable[[int, int], None] | None,
        squares: Pixels | None = None,
    ) -> Iterator[Pixels]:
        """Yields all images in order, in chunks. Skipped images are black.

        Args:
            threads: Threads that decode.
            progress: Called in this thread with the number of images done and the total.
            squares: All images [N, H, W, C], of which the chunks are slices. Without it, one
                small buffer is overwritten for every chunk.

        Raises:
            DataError: An image cannot be decoded and `bad` is "fail", or too many were skipped.
        """
        count = self.shape[0]
        small = np.empty((min(_CHUNK, count), *self.shape[1:]), dtype=self.dtype)
        for start in range(0, count, _CHUNK):
            stop = min(start + _CHUNK, count)
            chunk = small[: stop - start] if squares is None else squares[start:stop]
            chunk[:] = 0
            self._decode(np.arange(start, stop), chunk, self._square, threads)
            if progress is not None:
                progress(stop, count)
            yield chunk

    def seconds(self, threads: DecodingThreads) -> float:
        """Estimates the seconds that decoding all images takes, by decoding a few of them."""
        started, count = time.perf_counter(), self.shape[0]
        sample = np.unique(np.linspace(0, count - 1, _SAMPLE).astype(np.int64))
        self.squares(sample, threads)
        return (time.perf_counter() - started) / len(sample) * count

    def key(self, threads: DecodingThreads, ends: Callable[[], bool]) -> str | None:
        """Returns a name that is equal only for equal images and geometry; None if aborted.

        Args:
            threads: Threads that read the files to hash them.
            ends: Called between chunks of files; returns True to abort.
        """
        rule, total = self.rule, hashlib.sha256()
        for part in (
            *(_VERSION, PIL.__version__, self.shape, self.dtype.name, self._reduced),
            *(rule.resize, rule.side, rule.central, rule.interpolation, rule.levels),
        ):
            total.update(f"{part}\0".encode())
        for start in range(0, self.shape[0], _CHUNK):
            if ends():
                return None
            chunk = range(start, min(start + _CHUNK, self.shape[0]))
            for digest in threads.map(self._digest, chunk, part=HASHED):
                total.update(digest)
        return total.hexdigest()[:32]

    def without_skipped(self, indices: Sequence[int] | Indices) -> Indices:
        """Returns the indices [n] of the images that have not been skipped, in their order."""
        wanted = np.asarray(indices, dtype=np.int64)
        return wanted[~np.isin(wanted, list(self.skipped))] if self.skipped else wanted

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
                with GATE.scope():
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
        if len(self.skipped) > max(FEW_SKIPPED, MOST_SKIPPED * self.shape[0]):
            raise DataError(
                f"{len(self.skipped)} of {self.shape[0]} images cannot be decoded; the last error "
                f"was: {error} Expected at most {MOST_SKIPPED:.0%}, or {FEW_SKIPPED} in a small "
                "data set. Run forebear check to list them all."
            )

    def _square(self, index: int) -> Pixels:
        if self._reduced:
            return self._part(index, lambda width, height: centre_box(width, height, self.rule))
        return fit(self.images.image(index), self.rule)

    def _part(self, index: int, choose: Callable[[int, int], Box]) -> NDArray[np.uint8]:
        image = self.images.part(index, choose, self.rule.shape)
        if not isinstance(image, Image.Image):
            return image
        pixels = np.asarray(image if image.mode == self._mode else image.convert(self._mode))
        return pixels[:, :, None] if pixels.ndim == 2 else pixels

    def _digest(self, index: int) -> bytes:
        try:
            return self.images.digest(index)
        except DataError:  # decoding the image will raise it again
            return bytes(32)
