from __future__ import annotations

import pytest

from forebear.tasks.train.budget.progress import Progress, seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90s", 90), ("20m", 1200), ("1.5h", 5400), ("1h30m", 5400), ("1d", 86400)],
)
def test_a_span_of_time_is_read_in_its_units(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "20", "m", "20 m", "-3m", "3x", "1e3s"])
def test_what_is_no_span_of_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a time such as 90s, 20m"):
        seconds(text)


def test_a_course_of_steps_is_over_after_the_last_and_never_at_0_or_1() -> None:
    course = Progress(steps=4, begun=0.0)
    assert [course.progress(step) for step in range(4)] == [0.2, 0.4, 0.6, 0.8]
    assert [course.over(step) for step in (0, 3, 4)] == [False, False, True]
    assert course.measures()


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_budget_keeps_back_what_the_end_needs_whatever_a_step_takes() -> None:
    clock = Clock()
    course = Progress(budget=60.0, begun=100.0, clock=clock, evaluation=8.0, finish=2.0)
    step = 0
    while not course.over(step):
        taken = 0.4 if clock.now < 120 else 1.3  # a neighbour begins to compute
        clock.now += taken
        course.stepped(taken)
        step += 1
    assert course.spent == pytest.approx(50.0, abs=0.7)
    assert course.progress(step) == pytest.approx(1.0, abs=0.015)


def test_a_schedule_begins_with_the_first_step_whatever_came_before() -> None:
    clock = Clock()
    course = Progress(budget=60.0, begun=100.0, clock=clock, finish=2.0)
    clock.now = 140.0  # trials took 40 of 58 seconds
    course.begin(0.0)
    assert course.progress(0) == 0.0
    clock.now = 149.0
    assert course.progress(1) == pytest.approx(0.5)
    clock.now = 159.0
    assert course.progress(2) == 1.0


def test_a_resumed_schedule_goes_on_where_it_was() -> None:
    clock = Clock()
    for done, expected in ((0.4, 0.4), (None, 30 / 58)):  # older versions did not save it
        course = Progress(budget=60.0, begun=100.0, clock=clock, finish=2.0)
        clock.now = 130.0
        course.begin(done)
        assert course.progress(0) == pytest.approx(expected)
        clock.now = 144.0
        assert course.progress(1) == pytest.approx(expected + (1 - expected) / 2)
        clock.now = 158.0
        assert course.progress(2) == pytest.approx(1.0)


def test_the_first_step_warms_up_and_says_nothing_about_the_others() -> None:
    clock = Clock()
    course = Progress(budget=30.0, begun=100.0, clock=clock, finish=2.0)
    for taken in (10.0, 0.1):
        clock.now += taken
        course.stepped(taken)
    clock.now = 127.5  # half a second of 28 is left
    assert not course.over(2)


def test_a_budget_measures_on_the_way_only_while_that_costs_a_twentieth() -> None:
    clock = Clock()
    course = Progress(budget=1000.0, begun=100.0, clock=clock, evaluation=5.0)
    clock.now = 190.0
    assert not course.measures()
    clock.now = 201.0
    assert course.measures()
    course.measured(6.0)
    clock.now = 300.0
    assert not course.measures()
    clock.now = 322.0
    assert course.measures()
    clock.now = 1090.0  # the end measures anyway
    assert not course.measures()
