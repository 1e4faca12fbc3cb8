"""A search end to end: its trials, its winner, its files, and that it goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from forebear.errors import RunError, StopError
from forebear.tasks.runs.lock import FolderLock
from forebear.tasks.runs.read import read_run
from forebear.tasks.train import api
from forebear.tasks.train.events import EpochEnd, Event, observe
from forebear.tasks.train.recipe_files import read_recipe
from forebear.tasks.train.request import TrainConfig
from forebear.tasks.tune.config import TuneConfig
from forebear.tasks.tune.job import tune
from tests.cli.making import folder, table

pytest.importorskip("optuna")


def config(path: Path, *, time: float = 60, trials: int = 3) -> TuneConfig:
    if not (path / "data").exists():
        for part in ("train", "val"):
            folder(path / "data" / part, 10)
        table(path / "tiny.toml")
    train = TrainConfig(
        data=f"folder:{path / 'data'}",
        network=str(path / "tiny.toml"),
        dialect="paper-cifar",
        epochs=2,
        hold_out=0.3,
        device="cpu",
        threads=1,
    )
    return TuneConfig(
        train=train, out=path / "out", time=time, trials=trials, search=("lr=0.001..0.1:log",)
    )


@pytest.mark.long
def test_the_unchanged_recipe_comes_first_and_the_winner_is_never_worse(tmp_path: Path) -> None:
    result = tune(config(tmp_path))
    first = result.trials[0]
    assert (first.values, first.state) == ({}, "complete")
    assert len(result.trials) == 3
    assert all(0.001 <= trial.values["lr"] <= 0.1 for trial in result.trials[1:])
    assert result.winner.metric is not None
    assert first.metric is not None
    assert result.winner.metric >= first.metric
    runs = [read_run(result.folder / trial.folder) for trial in result.trials]
    assert all(run.finished for run in runs)
    assert [run.tested for run in runs] == [None] * 3  # the test set is for the winner alone
    assert result.test_images == 30
    assert 0 <= result.test <= 1
    recipe = read_recipe(str(result.folder / "recipe.toml"))
    assert recipe.lr == read_run(result.folder / "best").part("recipe")["lr"]
    assert json.loads((result.folder / "trials.json").read_text())["winner"]["number"] == (
        result.winner.number
    )


@pytest.mark.long
def test_a_search_that_was_stopped_goes_on_with_each_trial_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, EpochEnd):
            raise StopError("stopped by a signal.", 2)

    tune(config(tmp_path, trials=1))
    with observe(stop), pytest.raises(StopError, match="To go on: the same command with --out"):
        tune(config(tmp_path, trials=2))
    result = tune(config(tmp_path, trials=2))
    assert [trial.folder for trial in result.trials] == ["trial-000", "trial-002"]
    monkeypatch.setattr(api, "_run", None)  # all is done: nothing is trained
    assert tune(config(tmp_path, trials=2)).trials == result.trials


@pytest.mark.long
def test_the_time_ends_the_search_and_its_running_trial(tmp_path: Path) -> None:
    result = tune(config(tmp_path, time=0.01))
    assert [trial.state for trial in result.trials] == ["time"]
    assert result.trials[0].epochs < 1
    assert result.winner.number == 0


def test_another_search_does_not_go_into_the_same_folder(tmp_path: Path) -> None:
    tune(config(tmp_path, trials=1))
    other = replace(config(tmp_path, trials=1), search=("lr=0.002..0.1:log",))
    with pytest.raises(RunError, match=r"another search \(search: \['lr=0.001..0.1:log'\] then"):
        tune(other)
    folder(tmp_path / "data" / "train" / "more", 2)
    with pytest.raises(RunError, match="the images have changed|classes"):
        tune(config(tmp_path, trials=1))


def test_files_that_are_no_search_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("")
    with pytest.raises(RunError, match="holds files already, and they are no search"):
        tune(config(tmp_path))


def test_two_searches_do_not_share_a_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    lock = FolderLock(tmp_path / "out")
    lock.acquire()
    try:
        with pytest.raises(RunError, match="is training here"):
            tune(config(tmp_path))
    finally:
        lock.release()


@pytest.mark.long
def test_images_that_forebear_splits_off_are_a_test_set_as_well(tmp_path: Path) -> None:
    folder(tmp_path / "data", 30)
    table(tmp_path / "tiny.toml")
    asked = config(tmp_path, trials=1)
    result = tune(asked)
    run = read_run(result.folder / "trial-000").part("data")
    assert result.test_images > 0
    assert run["train"] + run["held_out"] + result.test_images == 90
