"""The classifier of a server: decoding threads, the queue, and the limit of the rate."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forebear.data.images.large import GATE
from forebear.engines.classifier import Classifier
from forebear.engines.engine import Pixels
from forebear.errors import DataError
from forebear.hardware import processor
from forebear.tasks.serve.batcher import Batcher
from forebear.tasks.serve.metrics import Metrics
from forebear.tasks.serve.protocol_v2 import RequestError

_CLIENTS = 10_000  # whose rates are remembered


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a network is served."""

    name: str  # of the model
    batch: int = 16  # most images at a time
    delay: float = 0.005  # seconds that an image waits for others
    queue: int = 256  # most images that wait
    rate: float = 0.0  # requests per second of one client address; 0: no limit


class Service:
    """Answers images. `draining` is set when the server is about to end."""

    def __init__(self, classifier: Classifier, settings: Settings) -> None:
        """Starts the engine's thread and the decoding threads."""
        self.draining = False
        self.classifier, self.settings = classifier, settings
        self._batcher = Batcher(
            classifier, batch=settings.batch, delay=settings.delay, queue=settings.queue,
            on_batch=lambda count: self.metrics.batch(count),
        )  # fmt: skip
        self.metrics = Metrics(lambda: self._batcher.waiting)
        self._pool = ThreadPoolExecutor(processor().cores, "decode")
        self._rates: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def close(self) -> None:
        """Answers what waits, and ends the threads."""
        self._batcher.close()
        self._pool.shutdown()

    def check_rate(self, host: str | None) -> None:
        """Lets a client send `rate` requests per second, and twice as many at once."""
        rate, now = self.settings.rate, time.monotonic()
        if not rate or host is None:
            return
        left, last = self._rates.pop(host, (2 * rate, now))
        left = min(2 * rate, left + (now - last) * rate)
        fits = left >= 1
        self._rates[host] = (left - fits, now)
        if len(self._rates) > _CLIENTS:
            self._rates.popitem(last=False)
        if not fits:
            raise RequestError(f"more than {rate:g} requests per second. Try again later.", 429)

    async def decoded(self, images: Sequence[bytes]) -> list[Pixels]:
        """Returns the pixels of encoded images, which threads decode.

        Raises:
            RequestError: One of them cannot be read.
        """
        loop = asyncio.get_running_loop()
        try:
            return list(
                await asyncio.gather(
                    *(loop.run_in_executor(self._pool, self._pixels, image) for image in images)
                )
            )
        except DataError as error:
            raise RequestError(str(error)) from error

    def _pixels(self, image: bytes) -> Pixels:
        with GATE.scope():
            return self.classifier.pixels(image)

    async def logits(self, images: list[Pixels]) -> NDArray[np.float32]:
        """Returns the logits of images, [N, classes].

        Raises:
            FullError: The queue has no room for them.
        """
        futures: list[Future[NDArray[np.float32]]] = self._batcher.submit(images)
        return np.stack(await asyncio.gather(*map(asyncio.wrap_future, futures)))
