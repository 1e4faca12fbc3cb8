"""Classifies many images: threads decode, the engine answers batches, answers come in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from forebear.data.images.large import GATE
from forebear.engines.classifier import Classifier
from forebear.engines.engine import Pixels
from forebear.errors import DataError
from forebear.hardware import processor
from forebear.tasks.result_file import Answer

Source = TypeVar("Source")  # such as a path, or the number of an image in a data set
Decoded = TypeVar("Decoded")
AHEAD = 4  # batches that are decoded while the engine answers one


def answers(
    classifier: Classifier,
    images: Iterable[Path],
    *,
    top: int = 5,
    batch: int = 16,
    threads: int | None = None,
    unknown: bool = False,
) -> Iterator[list[Answer]]:
    """Yields the answers to images, a batch at a time, in the order of the images.

    An image that cannot be read has an answer with an error.

    Args:
        classifier: The network and its engine.
        images: Paths.
        top: Classes per image; fewer if there are fewer.
        batch: Images at a time.
        threads: Decoding threads; None takes one per core.
        unknown: Whether answers say that an image is unknown.

    Raises:
        WeightsError: The results of an image are not finite.
    """
    if batch < 1 or top < 1:
        raise ValueError(
            f"batch={batch}, top={top}: expected 1 or more of each. Pass larger numbers."
        )
    for some in decoded(classifier.pixels, images, batch=batch, threads=threads):
        yield _answered(classifier, some, top, unknown)


def decoded(
    decode: Callable[[Source], Decoded],
    images: Iterable[Source],
    *,
    batch: int,
    threads: int | None = None,
) -> Iterator[list[tuple[Source, Future[Decoded]]]]:
    """Yields batches of images that threads decode some batches ahead, in their order.

    Args:
        decode: Decodes an image.
        images: Paths, or whatever else `decode` takes.
        batch: Images at a time.
        threads: Decoding threads; None takes one per core.
    """

    def held(image: Source) -> Decoded:
        with GATE.scope():
            return decode(image)

    with ThreadPoolExecutor(threads or processor().cores, "decode") as pool:
        waiting: deque[tuple[Source, Future[Decoded]]] = deque()
        source = iter(images)
        try:
            while True:
                for image in islice(source, AHEAD * batch - len(waiting) + batch):
                    waiting.append((image, pool.submit(held, image)))
                if not waiting:
                    return
                yield [waiting.popleft() for _ in range(min(batch, len(waiting)))]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _answered(
    classifier: Classifier, images: list[tuple[Path, Future[Pixels]]], top: int, unknown: bool
) -> list[Answer]:
    found: dict[int, Answer] = {}
    rows: list[Pixels] = []
    places: list[int] = []
    for place, (path, future) in enumerate(images):
        try:
            rows.append(future.result())
            places.append(place)
        except DataError as error:
            found[place] = Answer(path=str(path), error=str(error))
    if rows:
        names = [str(images[place][0]) for place in places]
        logits = classifier.logits(np.stack(rows), names)  # type: ignore[arg-type]
        strange = classifier.unknown(logits).tolist() if unknown else [False] * len(places)
        guesses = classifier.guesses(logits, top)
        labels: list[tuple[str, ...] | None] = [None] * len(places)
        if classifier.multi_label is not None:
            labels = [*classifier.labels(logits)]
        for place, own, alien, given in zip(places, guesses, strange, labels, strict=True):
            name = str(images[place][0])
            found[place] = Answer(path=name, guesses=tuple(own), unknown=alien, labels=given)
    return [found[place] for place in range(len(images))]


def shard_of(images: list[Path], shard: str) -> list[Path]:
    """Returns part I of N of a list: consecutive images, so that the parts' results concatenate.

    Args:
        images: All of them.
        shard: "I/N", from 1/N to N/N.

    Raises:
        ValueError: It is not of this form.
    """
    with suppress(ValueError):
        number, count = map(int, shard.split("/"))
        if 1 <= number <= count:
            first, end = ((at * len(images)) // count for at in (number - 1, number))
            return images[first:end]
    raise ValueError(
        f"shard={shard}: expected I/N with I from 1 to N, such as 3/8 for the third of eight "
        "parts. Pass such a value."
    )
