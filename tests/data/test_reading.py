from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from forebear.data.choices import Bad
from forebear.data.dataset import ArrayImages
from forebear.data.decoding_threads import DecodingThreads
from forebear.data.loader import Loader, Order
from forebear.data.pixel_store import PixelStore
from forebear.data.reading import BackgroundReader, Reading
from forebear.data.strata import stratified
from forebear.errors import DataError
from forebear.files import cache_folder
from forebear.tables.preprocessing import TORCHVISION
from tests.data.making import decided

RULE = replace(TORCHVISION, size=4)


class Clock:
    """A clock that images turn while they are decoded."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True, slots=True, eq=False)
class SlowImages(ArrayImages):
    """Images that take a second each of a clock, and may be broken or held up."""

    clock: Clock = field(default_factory=Clock)
    broken: tuple[int, ...] = ()
    gate: threading.Event | None = None  # waited for from the ninth image on
    seen: list[int] = field(default_factory=list)

    def with_levels(self, levels: object) -> SlowImages:
        return self

    def with_channels(self, channels: int) -> SlowImages:
        return self

    def take(self, indices: NDArray[np.int64]) -> SlowImages:
        return replace(self, pixels=self.pixels[indices], labels=self.labels[indices])

    def image(self, index: int) -> Image.Image:
        if self.gate is not None and len(self.seen) >= 8:
            assert self.gate.wait(30)
        self.seen.append(index)
        self.clock.now += 1
        if index in self.broken:
            raise DataError(f"number {index}: broken.")
        return Image.fromarray(self.pixels[index])


def slow(count: int = 64, *, broken: tuple[int, ...] = (), gated: bool = False) -> SlowImages:
    pixels = np.repeat(np.arange(count, dtype=np.uint8), 8 * 8 * 3).reshape(count, 8, 8, 3)
    gate = threading.Event() if gated else None
    return SlowImages(pixels, np.arange(count) % 4, "slow", broken=broken, gate=gate)


def reading_of(images: SlowImages, *, bad: Bad = "fail") -> Reading:
    store = PixelStore(images, RULE, bad=bad, workers=1)
    return Reading(store, stratified(images.labels, 0), clock=images.clock)


def batches_of(reading: Reading, labels: NDArray[np.int64]) -> Loader:
    return Loader(
        store=reading.store,
        labels=labels,
        rule=RULE,
        batch=8,
        device=torch.device("cpu"),
        reading=reading,
    )


def samples(batches: Loader, epoch: int) -> list[int]:
    order = Order(augment=decided(crop="middle"), seed=0)
    drafts = list(batches.drafts(order, epoch, among=batches.available()))
    return sorted(int(one) for draft in drafts for one in draft.samples)


def test_reading_ends_at_its_time_and_not_long_after() -> None:
    images = slow()
    reading = reading_of(images)
    with DecodingThreads(0, low=False) as threads:
        reading.first(threads, until=120.0, least=2)
    assert 20 <= reading.count <= 21
    assert images.clock.now <= 121
    assert not reading.done


def test_some_images_are_read_however_late_it_is() -> None:
    reading = reading_of(slow())
    with DecodingThreads(0, low=False) as threads:
        reading.first(threads, until=0.0, least=12)
    assert reading.count == 12


def test_training_begins_before_all_is_read_and_uses_all_images_in_the_end() -> None:
    images = slow(gated=True)
    assert images.gate is not None
    reading = reading_of(images)
    with DecodingThreads(0, low=False) as threads:
        reading.first(threads, until=0.0, least=8)
    batches = batches_of(reading, images.labels)
    background = BackgroundReader([reading], workers=1, keeps=False)
    background.start()  # is held up, so that the first epoch comes before it
    assert samples(batches, 1) == sorted(reading.order[:8].tolist())
    images.gate.set()
    background._thread.join(30)
    assert reading.done
    assert samples(batches, 2) == list(range(64))
    assert len(images.seen) == 64
    kept = reading.store.kept
    assert kept is not None
    assert kept[:, 0, 0, 0].tolist() == list(range(64))


def test_without_threads_images_are_decoded_by_the_steps_that_need_them() -> None:
    images = slow()
    reading = reading_of(images)
    with DecodingThreads(0, low=False) as threads:
        reading.first(threads, until=0.0, least=8)
    BackgroundReader([reading], workers=0).start()
    assert len(images.seen) == 8
    assert samples(batches_of(reading, images.labels), 1) == list(range(64))
    assert len(images.seen) == 64


def test_a_broken_image_that_is_met_beside_the_training_ends_it() -> None:
    images = slow(broken=(63,))
    reading = reading_of(images)
    reading.order = np.arange(64)
    with DecodingThreads(0, low=False) as threads:
        reading.first(threads, until=0.0, least=8)
    background = BackgroundReader([reading], workers=1, keeps=False)
    background.start()
    background._thread.join(30)
    with pytest.raises(DataError, match="number 63: broken"):
        samples(batches_of(reading, images.labels), 1)


def test_broken_images_are_skipped_and_counted_wherever_they_are_met() -> None:
    images = slow(broken=(3, 63))
    reading = reading_of(images, bad="skip")
    reading.order = np.arange(64)
    with DecodingThreads(0, low=False) as threads:
        reading.first(threads, until=0.0, least=8)
    assert sorted(reading.store.skipped) == [3]
    background = BackgroundReader([reading], workers=1, keeps=False)
    background.start()
    background._thread.join(30)
    assert sorted(reading.store.skipped) == [3, 63]
    found = samples(batches_of(reading, images.labels), 2)
    assert found == [n for n in range(64) if n not in (3, 63)]


def test_an_error_that_nobody_expects_ends_the_training_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reading = reading_of(slow())

    def fail(*_: object) -> None:
        raise MemoryError("no room for an image")

    monkeypatch.setattr(reading.store, "read", fail)
    background = BackgroundReader([reading], workers=1, keeps=False)
    background.start()
    background._thread.join(30)
    with pytest.raises(MemoryError, match="no room for an image"):
        reading.available()


def test_a_set_that_was_slow_to_read_is_kept_whole_for_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREBEAR_HOME", str(tmp_path))
    images = slow()
    reading = reading_of(images)
    background = BackgroundReader([reading], workers=1)
    background.start()
    background._thread.join(30)
    again = reading_of(slow())
    with DecodingThreads(0, low=False) as threads:
        assert again.store.recall(threads, lambda: False)
    assert again.store.kept is not None
    assert again.store.kept[:, 0, 0, 0].tolist() == list(range(64))


def test_a_reading_that_is_ended_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREBEAR_HOME", str(tmp_path))
    images = slow(gated=True)
    assert images.gate is not None
    reading = reading_of(images)
    background = BackgroundReader([reading], workers=1)
    background.start()
    background._ended.set()
    images.gate.set()
    background._thread.join(30)
    assert not reading.done
    assert not list(cache_folder().glob("*"))
    assert not list(cache_folder().glob(".*"))


def test_writing_a_set_ends_when_it_is_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREBEAR_HOME", str(tmp_path))
    reading = reading_of(slow())
    with DecodingThreads(0, low=False) as threads:
        reading.first(threads, until=0.0, least=64)
        asked: list[None] = []

        def ends() -> bool:
            asked.append(None)
            return len(asked) > 1  # not while the files are read, but while pixels are written

        reading.store.save(threads, ends)
        assert not [path for path in cache_folder().iterdir() if path.is_file()]
        reading.store.save(threads, lambda: False)
    assert len(list(cache_folder().iterdir())) == 2


def test_the_files_of_a_set_are_read_only_if_a_set_of_its_shape_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREBEAR_HOME", str(tmp_path))
    reading = reading_of(slow())
    with DecodingThreads(0, low=False) as threads:
        assert not reading.store.recall(threads, lambda: pytest.fail("files were read"))
