"""The line of an epoch: the time that is left counts from the first step of this process."""

from __future__ import annotations

import pytest

from forebear.tasks.runs.metrics import Epoch
from forebear.tasks.train.progress_bar import ProgressBar


def made(epoch: float, seconds: float) -> Epoch:
    return Epoch(
        epoch=epoch, step=10, lr=0.1, loss=1.0, accuracy=0.5, val_loss=1.0, val_accuracy=0.5,
        images_per_second=100.0, seconds=seconds, skipped=0, memory=1.0, losses=(), lrs=(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("done", "epoch", "taken", "line"),
    [(0.0, 1, 2.0, "epoch 1/4 "), (2.0, 3, 6.0, "epoch 3/4 ")],
)
def test_the_time_left_leaves_out_what_came_before_the_first_step(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    done: float,
    epoch: int,
    taken: float,
    line: str,
) -> None:
    now = 100.0
    monkeypatch.setattr("forebear.tasks.train.progress_bar.time.perf_counter", lambda: now)
    bar = ProgressBar(4)
    now += 60  # imports, reading and trials
    bar.starts(done)
    now += taken
    bar.epoch(made(epoch, seconds=60 + taken))
    said = capsys.readouterr().err
    assert line in said
    assert said.endswith("  6 s left\n")


def test_a_budget_leaves_what_the_run_has_not_taken(capsys: pytest.CaptureFixture[str]) -> None:
    ProgressBar(0, budget=90.0).epoch(made(2.5, seconds=70.0))
    assert capsys.readouterr().err.endswith("  20 s left\n")
