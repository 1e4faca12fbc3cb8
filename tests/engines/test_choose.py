from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from forebear.engines.choose import (
    Choice,
    choice_key,
    choice_to_dict,
    choose,
    measure,
    parse_choice,
)
from forebear.errors import WeightsError

PIXELS = np.zeros((4, 8, 8, 3), np.uint8)
WANTED = np.array([[1.0, 0.0], [0.0, 1.0], [3.0, 1.0], [1.0, 2.0]], np.float32)


class Clock:
    """Time that passes only while an engine works."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Fake:
    def __init__(self, clock: Clock, name: str, seconds: float, wrong: float = 0.0) -> None:
        self.clock, self.name, self.seconds, self.wrong = clock, name, seconds, wrong
        self.precision = "fp32"
        self.batches: list[int] = []

    def __call__(self, pixels: Any) -> Any:
        self.clock.now += self.seconds * len(pixels)
        self.batches.append(len(pixels))
        return np.resize(WANTED, (len(pixels), 2)) + np.float32(self.wrong)


class Engines:
    def __init__(self, **engines: Any) -> None:
        self.engines = engines

    def make(self, name: Any) -> Any:
        if isinstance(self.engines[name], Exception):
            raise self.engines[name]
        return self.engines[name]


def chosen(clock: Clock, batch: int = 2, **engines: Any) -> Choice:
    names: Any = list(engines)
    return choose(Engines(**engines), names, PIXELS, WANTED, batch=batch, clock=clock)


def test_the_fastest_equal_engine_is_chosen() -> None:
    clock = Clock()
    fast = Fake(clock, "openvino", 0.001)
    found = chosen(
        clock,
        torch=Fake(clock, "torch", 0.003),
        onnxruntime=Fake(clock, "onnxruntime", 0.0001, wrong=0.5),
        openvino=fast,
    )
    assert found.engine == "openvino"
    assert set(fast.batches) == {2, 4}
    times = {row.engine: row.milliseconds for row in found.rows}
    assert times == pytest.approx({"torch": 3, "openvino": 1, "onnxruntime": 0})
    told = found.line()
    assert told.startswith("engine openvino, fp32: openvino 1 ms, torch 3 ms per image at batch 2")
    assert "onnxruntime left out: its logits differ by 1.7e-01 of the largest logit" in told


def test_an_engine_that_fails_is_left_out_by_name() -> None:
    clock = Clock()
    found = chosen(
        clock, torch=Fake(clock, "torch", 0.1), openvino=RuntimeError("no\nplugin"),
    )  # fmt: skip
    assert found.engine == "torch"
    assert found.line().endswith(r"openvino left out: no\nplugin")


def test_no_engine_at_all() -> None:
    clock = Clock()
    with pytest.raises(WeightsError, match=r"no engine gives the network's results \(torch: its"):
        chosen(clock, torch=Fake(clock, "torch", 0.1, wrong=9))


def test_a_slow_network_is_measured_a_few_times_only() -> None:
    clock = Clock()
    slow: Any = Fake(clock, "torch", 100.0)
    assert len(measure({"torch": slow}, PIXELS, seconds=1, clock=clock)["torch"]) == 3
    fast: Any = Fake(clock, "torch", 1e-6)
    assert len(measure({"torch": fast}, PIXELS, seconds=1, clock=clock)["torch"]) == 15


def test_the_first_of_several_calls_with_one_image_does_not_count() -> None:
    clock = Clock()

    class Cold(Fake):
        """Takes ten times as long if another engine has been called since its last call."""

        last = ""

        def __call__(self, pixels: Any) -> Any:
            self.clock.now += self.seconds * 10 * (Cold.last != self.name)
            Cold.last = self.name
            return super().__call__(pixels)

    engines: Any = {"torch": Cold(clock, "torch", 1.0), "openvino": Cold(clock, "openvino", 0.5)}
    one = measure(engines, PIXELS[:1], seconds=60, clock=clock)
    assert {name: set(times) for name, times in one.items()} == {"torch": {1.0}, "openvino": {0.5}}
    many = measure(engines, PIXELS, seconds=60, clock=clock)
    assert set(many["torch"]) == {len(PIXELS) + 10.0}


def test_a_choice_is_kept_as_it_was() -> None:
    clock = Clock()
    found = chosen(clock, torch=Fake(clock, "torch", 0.1))
    assert parse_choice(choice_to_dict(found)) == found


@pytest.mark.parametrize(
    "changes",
    [
        {"engine": "onnxruntime"},
        {"engine": "gpt"},
        {"precision": 3},
        {"rows": []},
        {"rows": [{"engine": "torch"}]},
        {"batch": "1"},
        {"more": 1},
    ],
)
def test_a_damaged_choice_is_no_choice(changes: dict[str, Any]) -> None:
    clock = Clock()
    data = choice_to_dict(chosen(clock, torch=Fake(clock, "torch", 0.1)))
    with pytest.raises(ValueError, match="not a choice of an engine"):
        parse_choice(data | changes)
    with pytest.raises(ValueError, match="not a choice of an engine"):
        parse_choice(None)


def test_the_key_is_of_everything_that_speed_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {choice_key("fp32", batch, threads) for batch in (1, 2) for threads in (None, 1)}
    keys.add(choice_key("bf16", 1, None))
    assert len(keys) == 5
    monkeypatch.setattr("forebear.engines.choose._version", lambda name: "next")
    assert choice_key("fp32", 1, None) not in keys
