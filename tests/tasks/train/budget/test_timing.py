from __future__ import annotations

import math
from pathlib import Path

import pytest

import forebear
from forebear.tasks.train.budget import timing, timing_cache
from forebear.tasks.train.budget.timing import Operations
from forebear.tasks.train.budget.timing_cache import remember, remembered
from tests.tasks.train.budget.making import Clock, Machine, recipe, times_of


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FOREBEAR_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def machine(**more: float) -> Machine:
    return Machine(Clock(), **{"fixed": 0.4, "images": 0.6} | more)


def test_what_was_not_measured_lies_on_the_line_through_what_was() -> None:
    times = times_of(machine())
    assert times.learn(8, 64, until=200.0)
    assert times.learn(64, 96, until=200.0)
    assert times.seconds(64, 96) == pytest.approx(1.0)
    assert times.seconds(64, 128) == pytest.approx(0.4 + 0.6 * 16 / 9, rel=0.05)
    assert times.seconds(32, 96) == pytest.approx(0.7, rel=0.05)


def test_of_one_measurement_steps_follow_from_their_multiply_adds() -> None:
    network = forebear.create("torchvision/resnet18", num_classes=10)
    times = times_of(machine(fixed=0.0), optimizer="sgd")
    assert times.learn(64, 96, until=200.0)
    assert times.seconds(64, 224) == pytest.approx(0.6 * (224 / 96) ** 2, rel=0.1)
    sgd, muon = (
        Operations(
            plan=network.plan, recipe=recipe(optimizer=name, newton_schulz_steps=3)
        ).of_optimizer
        for name in ("sgd", "muon")
    )
    assert sgd < 1e9 < 2e10 < muon < 5e10


def test_a_step_that_cannot_be_afforded_is_not_taken() -> None:
    slow = machine(images=500.0)
    times = times_of(slow, rate=1e9)
    assert times.seconds(64, 96) > 60
    assert not times.learn(64, 96, until=slow.clock.now + 10)
    assert slow.steps == []
    assert slow.clock.now == 100.0


def test_a_deadline_that_comes_while_steps_are_timed_ends_the_timing() -> None:
    slow = machine(images=64.0)  # of which nothing was known before
    times = times_of(slow, rate=1e12)
    assert times.learn(64, 96, until=slow.clock.now + 10)
    assert times.seconds(64, 96) == pytest.approx(64.4)
    assert slow.clock.now <= 100 + 2 * 64.4
    assert not times.learn(32, 96, until=slow.clock.now + 10)


def test_one_timing_serves_all_decisions_and_the_next_run() -> None:
    first = machine()
    times = times_of(first)
    assert times.learn(64, 96, until=200.0)
    assert times.learn(64, 96, until=0.0)
    again = machine()
    assert times_of(again).learn(64, 96, until=0.0)
    assert (len(first.steps), again.steps) == (1, [])
    other = machine()
    assert times_of(other, optimizer="muon").learn(64, 96, until=200.0)
    assert len(other.steps) == 1


def test_other_kernels_are_timed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert times_of(machine()).learn(64, 96, until=200.0)
    monkeypatch.setattr(timing, "version", lambda: "0123456789ab")
    other = machine()
    assert times_of(other).learn(64, 96, until=200.0)
    assert len(other.steps) == 1


def test_what_does_not_fit_in_memory_takes_forever_and_is_not_remembered() -> None:
    times = times_of(machine(room=64))
    assert times.learn(128, 96, until=200.0)
    assert times.seconds(128, 96) == math.inf
    assert times.learn(64, 96, until=200.0)
    assert times.seconds(32, 96) < 1
    assert times_of(machine(room=64)).seconds(128, 96) < math.inf


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"key": "x"}', '{"key": -1.0}', '{"key": null}'])
def test_a_damaged_file_of_timings_is_ignored_and_replaced(home: Path, text: str) -> None:
    home.mkdir()
    (home / "timings.json").write_text(text)
    assert remembered("key") is None
    remember("key", 2.5)
    assert remembered("key") == 2.5


def test_the_oldest_timings_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing_cache, "MOST", 2)
    for key in "abc":
        remember(key, 1.0)
    remember("b", 3.0)
    assert [remembered(key) for key in "abc"] == [None, 3.0, 1.0]


def test_without_a_place_for_timings_each_run_times_anew(home: Path) -> None:
    home.write_text("a file, where a folder should be")
    remember("key", 2.5)
    assert remembered("key") is None


def test_before_any_step_the_rate_of_products_is_measured() -> None:
    times = times_of(machine(), rate=0.0)
    assert 1e8 < times.rate < 1e15
