from __future__ import annotations

from pathlib import Path

import pytest
import torch

import forebear
from forebear.tasks.train.events import (
    CheckpointDue,
    EpochEnd,
    EpochProgress,
    EvaluationStart,
    Event,
    Finished,
    Message,
    Started,
    StepEnd,
    StepStart,
    TrainingEnd,
    notify,
    observe,
)
from tests.cli.making import folder, table


def config(tmp_path: Path, name: str = "run") -> forebear.TrainConfig:
    if not (tmp_path / "data").exists():
        folder(tmp_path / "data")
        table(tmp_path / "tiny.toml")
    return forebear.TrainConfig(
        data=f"folder:{tmp_path / 'data'}",
        network=str(tmp_path / "tiny.toml"),
        dialect="torchvision",
        out=tmp_path / name,
        size=16,
        batch=26,
        epochs=2,
        threads=1,
        every=1000,
    )


def test_the_events_of_a_run_come_in_order(tmp_path: Path) -> None:
    events: list[Event] = []
    with observe(events.append):
        result = forebear.train(config(tmp_path))
    kinds = [type(event) for event in events if not isinstance(event, EpochProgress | Message)]
    epoch = [StepStart, StepEnd, StepStart, StepEnd, EvaluationStart, EpochEnd, CheckpointDue]
    assert kinds == [Started, CheckpointDue, *epoch, *epoch, TrainingEnd, Finished]
    steps = [event.step for event in events if isinstance(event, StepStart | StepEnd)]
    assert steps == [1, 1, 2, 2, 3, 3, 4, 4]
    started, finished = events[0], events[-1]
    assert isinstance(started, Started)
    assert (started.step, started.resumed, started.epochs) == (0, False, ())
    assert isinstance(finished, Finished)
    assert finished.evaluation is result.validation
    assert finished.test is None
    ends = [event for event in events if isinstance(event, EpochEnd)]
    assert [end.epoch.step for end in ends] == [2, 4]
    assert ends[0].best is not None  # the validation set was split off, so it chooses weights


@pytest.mark.long
def test_an_error_of_an_observer_ends_the_run_which_then_resumes_to_the_same_bits(
    tmp_path: Path,
) -> None:
    whole = forebear.train(config(tmp_path, "whole"))

    def fail(event: Event) -> None:
        if isinstance(event, StepStart) and event.step == 4:
            raise ZeroDivisionError

    with observe(fail), pytest.raises(ZeroDivisionError):
        forebear.train(config(tmp_path, "broken"))
    started: list[Event] = []
    with observe(lambda event: started.append(event) if isinstance(event, Started) else None):
        resumed = forebear.resume(tmp_path / "broken", threads=1)
    (event,) = started
    assert isinstance(event, Started)
    assert (event.step, event.resumed, len(event.epochs)) == (2, True, 1)
    states = [
        forebear.load(result.folder / "model.safetensors").state_dict()
        for result in (whole, resumed)
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_observers_are_called_in_order_and_only_within_their_context() -> None:
    found: list[str] = []
    event = TrainingEnd()
    with observe(lambda _: found.append("outer")):
        with observe(lambda _: found.append("inner")):
            notify(event)
        notify(event)
        with pytest.raises(KeyError), observe(lambda _: found.append("never")):
            raise KeyError
        notify(event)
    notify(event)
    assert found == ["outer", "inner", "outer", "outer"]
