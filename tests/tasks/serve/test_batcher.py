from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from forebear.tasks.serve.batcher import Batcher, FullError
from tests.tasks.serve.making import Brightness, classifier


def image(value: int) -> np.ndarray:
    return np.full((8, 8, 3), value, np.uint8)


def test_images_that_come_together_are_answered_together() -> None:
    engine = Brightness()
    counts: list[int] = []
    batcher = Batcher(classifier(engine), batch=4, delay=0.2, queue=100, on_batch=counts.append)
    futures = [batcher.submit([image(value)])[0] for value in (0, 255, 0, 255, 255)]
    found = [int(future.result(5).argmax()) for future in futures]
    assert found == [0, 1, 0, 1, 1]
    batcher.close()
    assert engine.batches == [4, 1] == counts


def test_an_image_waits_no_longer_than_the_delay() -> None:
    batcher = Batcher(classifier(), batch=100, delay=0.05, queue=100)
    begun = time.monotonic()
    batcher.submit([image(0)])[0].result(5)
    assert 0.04 < time.monotonic() - begun < 2
    batcher.close()


def test_a_full_queue_refuses_all_images_of_a_request() -> None:
    engine = Brightness(seconds=0.2)
    batcher = Batcher(classifier(engine), batch=1, delay=0, queue=2)
    first = batcher.submit([image(0)])
    time.sleep(0.05)  # the engine has taken it
    second = batcher.submit([image(0)])
    with pytest.raises(FullError):
        batcher.submit([image(0), image(0)])
    assert batcher.waiting == 1
    assert all(future.result(5) is not None for future in (*first, *second))
    batcher.close()
    assert engine.batches == [1, 1]


def test_closing_answers_what_waits() -> None:
    engine = Brightness(seconds=0.05)
    batcher = Batcher(classifier(engine), batch=2, delay=60, queue=100)
    futures = batcher.submit([image(255)] * 5)
    batcher.close()
    assert [int(future.result(0).argmax()) for future in futures] == [1] * 5
    with pytest.raises(FullError):
        batcher.submit([image(0)])


def test_a_fault_of_the_engine_reaches_its_requests_only() -> None:
    engine = Brightness()
    batcher = Batcher(classifier(engine), batch=1, delay=0, queue=100)
    engine.fault = "no memory"
    with pytest.raises(RuntimeError, match="no memory"):
        batcher.submit([image(0)])[0].result(5)
    engine.fault = ""
    assert batcher.submit([image(255)])[0].result(5).argmax() == 1
    batcher.close()


def test_a_request_that_is_given_up_is_not_computed() -> None:
    engine = Brightness()
    batcher = Batcher(classifier(engine), batch=4, delay=0.1, queue=100)
    futures = batcher.submit([image(0), image(255)])
    assert futures[0].cancel()
    assert futures[1].result(5).argmax() == 1
    third = batcher.submit([image(0)])[0]
    assert third.cancel()
    fourth = batcher.submit([image(255)])[0]
    assert fourth.result(5).argmax() == 1
    batcher.close()
    assert sum(engine.batches) == 2


def test_many_threads() -> None:
    batcher = Batcher(classifier(), batch=8, delay=0.001, queue=1000)
    found: list[bool] = []

    def ask(value: int) -> None:
        for _ in range(50):
            found.append(batcher.submit([image(value)])[0].result(5).argmax() == (value > 128))

    threads = [threading.Thread(target=ask, args=(value,)) for value in (0, 255) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    batcher.close()
    assert len(found) == 400
    assert all(found)
