from __future__ import annotations

from forebear.tasks.train.saving import SAVING, SAVING_SHARE, SaveClock


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def clock(time: Time, every: int = 0) -> SaveClock:
    made = SaveClock(every=every, clock=time)
    made.start()
    return made


def test_within_an_epoch_a_checkpoint_is_due_after_five_minutes() -> None:
    time = Time()
    saves = clock(time)
    time.now += SAVING
    assert not saves.due(7)
    time.now += 0.1
    assert saves.due(7)
    saves.saved(time.now)
    assert not saves.due(8)


def test_at_the_end_of_an_epoch_a_checkpoint_is_due_unless_saving_takes_long() -> None:
    time = Time()
    saves = clock(time)
    time.now += 0.1
    assert saves.due(7, ended=True)  # the first one, whose cost is not known
    started = time.now
    time.now += 2.0
    saves.saved(started)
    time.now += 2.0 * SAVING_SHARE
    assert not saves.due(14, ended=True)
    time.now += 0.1
    assert saves.due(14, ended=True)


def test_a_number_of_steps_takes_the_place_of_the_clock() -> None:
    time = Time()
    saves = clock(time, every=3)
    assert [step for step in range(1, 10) if saves.due(step)] == [3, 6, 9]
    assert saves.due(7, ended=True)
    time.now += 1e6
    assert not saves.due(7)
