"""Whole runs on a budget, whose clock is replaced by a count of steps."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from forebear.cli.main import main
from forebear.data.reading import BackgroundReader
from forebear.tasks.runs.read import load_run
from forebear.tasks.train.budget import evaluation
from forebear.tasks.train.budget.deadlines import Deadlines
from forebear.tasks.train.budget.progress import Progress
from forebear.tasks.train.events import Event, StepStart, observe
from tests.cli.making import folder, table


def trained(tmp_path: Path, budget: str, *more: Any) -> tuple[int, Path]:
    """Trains the tiny network on the tiny folder for a time."""
    data, net = tmp_path / "data", tmp_path / "tiny.toml"
    if not data.exists():
        folder(data)
        table(net)
    given = ("--data", f"folder:{data}", "--network", net, "--dialect", "torchvision")
    where = ("--size", 16, "--out", tmp_path / "run", "--budget", budget)
    return main(["train", *map(str, (*given, *where, *more))]), tmp_path / "run"


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


STEPS = 60  # that a run has


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs end after 60 steps, and reading has no time before the training."""
    monkeypatch.setattr(Progress, "over", lambda _, step: step >= STEPS)
    monkeypatch.setattr(Progress, "progress", lambda _, step: min(step / STEPS, 1.0))
    monkeypatch.setattr(Deadlines, "read", property(lambda _: 0.0))


@pytest.mark.long
def test_a_budget_that_is_shorter_than_the_end_of_a_run_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, run = trained(tmp_path, "1s")
    assert code == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("forebear: --budget 1 s: ")
    assert told.endswith("Expected time for some steps. Raise the budget.")
    assert not run.exists()


def test_a_budget_that_is_shorter_than_listing_the_images_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, run = trained(tmp_path, "0.001s")
    assert code == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        r"forebear: --budget 0\.001 s: loading torch and listing the images of folder:.* took "
        r"\d+\.\d s\. Expected a longer budget\. Raise the budget\.",
        told,
    )
    assert not run.exists()


@pytest.mark.long
def test_images_that_are_read_while_training_are_all_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], counted: None
) -> None:
    code, run = trained(tmp_path, "1h")
    assert code == 0
    assert "reading 8 of 51 images first, the rest while training" in capsys.readouterr().err
    assert lines(run)[-1]["val_images"] == 9
    metrics = load_run(run).card.metrics
    assert (metrics["held_out_images"], metrics["held_out_images_in_set"]) == (9, 9)
    assert "training_images_read" not in metrics
    assert metrics["held_out_accuracy"] > 0.9


@pytest.mark.long
def test_a_broken_image_that_is_met_while_training_ends_the_run_or_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], counted: None
) -> None:
    folder(tmp_path / "data")
    table(tmp_path / "tiny.toml")
    (tmp_path / "data" / "grey" / "7.png").write_bytes(b"no image")
    code, _ = trained(tmp_path, "1h")
    assert code == 2
    assert "7.png: not an image" in capsys.readouterr().err.splitlines()[-1]
    code, run = trained(tmp_path, "1h", "--bad", "skip", "--replace")
    assert code == 0
    assert capsys.readouterr().err.count("left out: ") == 1
    assert load_run(run).card.metrics["images_left_out"] == 1


def test_an_evaluation_that_is_cut_says_so_wherever_it_is_told(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    counted: None,
) -> None:
    monkeypatch.setattr(evaluation, "seconds_of_image", lambda *_: 200.0)
    code, run = trained(tmp_path, "1h")
    assert code == 0
    told = capsys.readouterr()
    assert "evaluating 4 of 9 validation images, a fixed random part" in told.err
    assert "of 4 validation images correct" in told.out
    assert lines(run)[-1]["val_images"] == 4
    assert json.loads((run / "settings.json").read_text())["data"]["evaluated"] == 4
    metrics = load_run(run).card.metrics
    assert (metrics["held_out_images"], metrics["held_out_images_in_set"]) == (4, 9)


@pytest.mark.long
def test_a_run_that_was_interrupted_while_reading_goes_on(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    counted: None,
) -> None:

    def interrupt(event: Event) -> None:
        if isinstance(event, StepStart) and event.step == 21:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, observe(interrupt):
        patched.setattr(BackgroundReader, "start", lambda _: None)
        code, run = trained(tmp_path, "1h", "--save-every", 3)
    assert code == 130
    assert not (run / "model.safetensors").exists()
    capsys.readouterr()
    assert main(["train", "--resume", str(run)]) == 0
    told = capsys.readouterr().err
    assert "reading 8 of 51 images first, the rest while training" in told
    found = re.search(r"resuming after step (\d+)", told)
    assert found is not None
    assert 18 <= int(found[1]) <= 20  # it can be saved after an evaluation too
    last = lines(run)[-1]
    assert last["step"] == STEPS
    assert last["val_images"] == 9


@pytest.mark.long
def test_a_validation_part_chooses_and_the_test_part_is_tested_within_the_budget(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], counted: None
) -> None:
    code, run = trained(tmp_path, "1h", "--hold-out", "0.2")
    assert code == 0
    assert "of 9 test images correct" in capsys.readouterr().out
    metrics = load_run(run).card.metrics
    assert (metrics["test_images"], metrics["test_images_in_set"]) == (9, 9)


def test_a_head_that_learns_alone_is_given_the_features_that_there_is_time_for(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    counted: None,
) -> None:
    monkeypatch.setattr(evaluation, "seconds_of_image", lambda *_: 20.0)
    code, run = trained(tmp_path, "1h", "--set", "head_only=true")
    assert code == 0
    assert "training on 22 of 51 images" in capsys.readouterr().err
    assert lines(run)[-1]["val_images"] == 9
