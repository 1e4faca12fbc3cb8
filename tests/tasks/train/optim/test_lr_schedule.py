from __future__ import annotations

from typing import Any

import pytest

from forebear.tasks.train.optim.lr_schedule import rate
from forebear.tasks.train.recipe import Recipe, Schedule


def rates(steps: int, **options: Any) -> list[float]:
    """The rate of each step of a run that counts in steps."""
    recipe = Recipe(lr=1.0, iterations=steps, **options)
    return [rate(recipe, (k + 1) / (steps + 1), steps) for k in range(steps)]


def end(**options: Any) -> float:
    return rate(Recipe(lr=1.0, epochs=10, **options), 1.0, 10)


def test_he_s_rate_drops_at_exactly_32k_and_48k_of_64k_steps() -> None:
    shares = rates(64_000, schedule="step", milestones=(32_000, 48_000))
    assert shares[31_999] == 1
    assert shares[32_000] == pytest.approx(0.1)
    assert shares[47_999] == pytest.approx(0.1)
    assert shares[48_000] == shares[-1] == pytest.approx(0.01)


@pytest.mark.parametrize("milestone", [1, 2, 49, 99])
def test_a_milestone_takes_effect_at_its_own_step(milestone: int) -> None:
    shares = rates(100, schedule="step", milestones=(milestone,), gamma=0.5)
    assert shares == [1.0] * milestone + [0.5] * (100 - milestone)


def test_milestones_in_epochs_fall_on_the_first_step_of_an_epoch() -> None:
    recipe = Recipe(lr=1.0, epochs=90, schedule="step", milestones=(30, 60))
    steps = 90 * 7  # 7 steps an epoch
    shares = [rate(recipe, (k + 1) / (steps + 1), 90) for k in range(steps)]
    assert [shares.index(share) for share in sorted(set(shares), reverse=True)] == [0, 210, 420]


def test_a_triangle_is_the_published_line_and_0_in_no_step() -> None:
    shares = rates(9, schedule="triangular", warmup=4.5)
    assert shares == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 0.8, 0.6, 0.4, 0.2])


def test_a_triangle_from_a_fifth_and_down_to_a_share() -> None:
    options: dict[str, Any] = {"schedule": "triangular", "warmup": 2, "warmup_from": 0.2}
    recipe = Recipe(lr=3.0, epochs=10, final_lr_scale=0.07, **options)
    places = [rate(recipe, place, 10) for place in (0.0, 0.1, 0.2, 0.6, 1.0)]
    assert places == pytest.approx([0.2, 0.6, 1.0, (1 + 0.07) / 2, 0.07])


def test_half_a_cosine_after_a_line_up() -> None:
    recipe = Recipe(
        lr=1.0, epochs=10, schedule="cosine", warmup=2, warmup_from=1e-4, final_lr_scale=0.01
    )
    places = [rate(recipe, place, 10) for place in (0.0, 0.1, 0.2, 0.4, 0.6, 1.0)]
    quarter = 0.01 + 0.99 * (1 + 0.5**0.5) / 2
    assert places == pytest.approx([1e-4, 0.50005, 1.0, quarter, 0.505, 0.01])


def test_one_cycle_rises_along_a_cosine_too() -> None:
    recipe = Recipe(lr=1.0, epochs=8, schedule="onecycle", warmup=2, warmup_from=0.04)
    places = [rate(recipe, place, 8) for place in (0.0, 0.125, 0.25, 0.625, 1.0)]
    assert places == pytest.approx([0.04, 0.52, 1.0, 0.5, 0.0])
    assert rate(recipe, 0.0625, 8) < 0.04 + 0.96 / 4  # below the line


def test_a_warm_up_goes_before_a_constant_rate_and_before_steps() -> None:
    assert rates(4, schedule="constant", warmup=1.6) == pytest.approx([0.5, 1, 1, 1])
    shares = rates(9, schedule="step", warmup=6, milestones=(3, 7))
    assert shares[:3] == pytest.approx([0.15, 0.3, 0.45])
    assert shares[3:6] == pytest.approx([0.06, 0.075, 0.09])
    assert shares[6:] == pytest.approx([0.1, 0.01, 0.01])


@pytest.mark.parametrize(
    ("schedule", "last"),
    [("constant", 1.0), ("step", 0.01), ("cosine", 0.2), ("triangular", 0.2), ("onecycle", 0.2)],
)
def test_the_end_of_every_schedule(schedule: Schedule, last: float) -> None:
    value = end(schedule=schedule, milestones=(4, 9), final_lr_scale=0.2)
    assert value == pytest.approx(last)


def test_a_run_shorter_than_its_warm_up_still_ends_at_its_end() -> None:
    recipe = Recipe(lr=1.0, schedule="cosine", warmup=5)
    assert [rate(recipe, place, 2) for place in (0.5, 1.0)] == pytest.approx([0.2, 0.0])
    assert rate(recipe, 1.0, 5) == pytest.approx(0.0)
