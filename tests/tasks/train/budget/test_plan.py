from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from forebear.tasks.train.budget.plan import (
    BEFORE,
    TIMING,
    Allowance,
    Amount,
    Fitted,
    evaluated,
    fit_to_budget,
    fitting_batch,
    fitting_size,
    plan_budget,
    smaller_batch,
)
from tests.tasks.train.budget.making import Clock, Machine, recipe, times_of


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBEAR_HOME", str(tmp_path / "home"))


def plan(
    budget: float,
    *,
    fixed: float = 0.1,
    images: float = 0.17,
    until: float = 1e9,
    room: float = math.inf,
    rate: float = 3e11,
    trained: bool = False,
    **given: Any,
) -> tuple[Fitted, Machine]:
    """The plan for Imagenette; by default on two cores with AVX512-BF16."""
    machine = Machine(Clock(), fixed=fixed, images=images, room=room)
    first = {"size": given.get("size", 224), "batch": given.get("batch", 64)}
    times = times_of(machine, rate=rate, optimizer="muon", newton_schulz_steps=3, **first)
    asked = replace(recipe(), size=given.get("size", 0), batch=given.get("batch", 0))
    amount = Amount(train=9469, evaluated=3925, budget=budget)
    found = fit_to_budget(asked, times, amount, until, trained=trained)
    return found, machine


def test_three_minutes_of_two_fast_cores_train_at_128_pixels() -> None:
    found, _ = plan(180.0)
    assert (found.size, found.batch) == (128, 64)
    assert found.line.startswith("128 x 128 pixels and 64 images a step were chosen for the budget")


@pytest.mark.parametrize(("budget", "size"), [(45.0, 64), (180.0, 96), (600.0, 128)])
def test_slower_cores_train_on_smaller_images(budget: float, size: int) -> None:
    found, _ = plan(budget, fixed=0.42, images=0.6)
    assert (found.size, found.batch) == (size, 64)


def test_very_slow_cores_take_smaller_images_and_batches_to_have_some_steps() -> None:
    found, _ = plan(60.0, fixed=0.0, images=8.0)
    assert found.size < 64
    assert found.batch <= 64
    step = 8.0 * found.batch / 64 * (found.size / 96) ** 2
    assert 60 * 0.3 / step > 15


def test_what_the_caller_has_fixed_stays() -> None:
    fixed: tuple[dict[str, Any], ...] = (
        {"size": 224},
        {"batch": 16},
        {"size": 224, "batch": 16},
    )
    for given in fixed:
        found, _ = plan(20.0, fixed=0.5, images=3.0, **given)
        for name, value in given.items():
            assert getattr(found, name) == value
    found, machine = plan(20.0, trained=True)
    assert found == Fitted(size=224, batch=64)
    assert machine.steps == []


@pytest.mark.parametrize("rate", [1e8, 3e11])
def test_without_time_to_measure_the_plan_is_made_by_an_estimate(rate: float) -> None:
    found, machine = plan(45.0, until=0.0, rate=rate)
    assert machine.steps == []
    assert (found.size, found.batch) == (96, 64)
    assert "was not timed, for want of time; it takes perhaps" in found.line


@pytest.mark.parametrize("step", [0.02, 0.3, 3.0, 30.0])
def test_timing_keeps_to_its_share_whatever_a_step_takes(step: float) -> None:
    budget = 60.0
    machine = Machine(Clock(), fixed=step / 4, images=step)
    times = times_of(machine, rate=6.4e10 / step)  # a good guess
    amount = Amount(train=9469, evaluated=3925, budget=budget)
    asked, until = recipe(size=0, batch=0), machine.clock.now + TIMING * budget
    fit_to_budget(asked, times, amount, until, trained=False)
    assert machine.clock.now <= until + 0.02 * budget


def test_out_of_memory_ends_the_doubling_of_the_batch() -> None:
    found, machine = plan(4000.0, fixed=1.0, images=0.01, size=96, room=128)
    assert found.batch == 128
    assert (256, 96) in machine.steps


@pytest.mark.parametrize(
    ("passes", "size"), [(9, 224), (2.5, 224), (1.3, 160), (1, 128), (0.1, 96)]
)
def test_photographs_are_made_smaller_rather_than_seen_seldom(passes: float, size: int) -> None:
    found = fitting_size(
        range(224, 0, -32),
        passes=lambda side: passes * (224 / side) ** 2,
        steps=lambda side: 1000.0,
    )
    assert found == size


@pytest.mark.parametrize(
    ("budget", "fixed", "batch"),
    [
        (4000.0, 0.9, 512),  # a pass of 20 steps
        (210.0, 0.9, 256),  # as many steps as a run should have
        (100.0, 0.9, 128),
        (4000.0, 0.1, 128),  # an image costs the same in any batch
    ],
)
def test_a_budget_doubles_the_batch_where_that_is_cheaper_and_steps_remain(
    budget: float, fixed: float, batch: int
) -> None:
    def seconds(images: int) -> float:
        return 0.1 * (fixed + (1 - fixed) * images / 128)

    assert fitting_batch(128, 10_500, budget, seconds) == batch


@pytest.mark.parametrize(
    ("fixed", "left", "batch"), [(0.0, 100.0, 64), (0.0, 20.0, 32), (0.0, 1.0, 16), (0.9, 1.0, 64)]
)
def test_few_steps_halve_the_batch_unless_that_saves_nothing(
    fixed: float, left: float, batch: int
) -> None:
    assert smaller_batch(64, left, lambda images: fixed + (1 - fixed) * images / 64) == batch


def test_few_passes_are_seen_growing_from_three_quarters_of_the_side() -> None:
    times = times_of(Machine(Clock(), fixed=0.0, images=0.6))
    times.known[64, 128] = 0.4
    few = plan_budget(recipe(size=128), times, left=150.0, steps=148)
    assert (few.size_from, few.epochs) == (96, 3)
    many = plan_budget(recipe(size=128), times, left=6000.0, steps=148)
    assert (many.size_from, many.epochs) == (0, 101)


def test_evaluation_is_cut_where_it_takes_more_than_a_quarter_of_the_budget() -> None:
    whole = evaluated(3925, 0.01, 180.0)
    assert whole.images == 3925
    assert whole.seconds == pytest.approx(39.25)
    part = evaluated(3925, 0.01, 90.0)
    assert part.images == 1125
    assert part.seconds == pytest.approx(11.25)
    assert evaluated(3925, 0.1, 60.0).images == 100  # fewer tell too little
    assert evaluated(3925, 1.0, 60.0).images == 15
    assert evaluated(3925, 100.0, 60.0).images == 1
    assert evaluated(0, 0.0, 60.0).images == 0


def test_the_parts_before_the_training_end_within_their_shares() -> None:
    allowance = Allowance(100.0, started=1000.0, planned=1002.0)
    assert allowance.ready == 1000 + 100 * BEFORE
    assert allowance.timed == 1002 + 100 * TIMING
    assert Allowance(100.0, started=1000.0, planned=1020.0).timed == allowance.ready
