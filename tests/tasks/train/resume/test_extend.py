"""A finished run that goes on for more epochs, and a run folder that others have changed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from forebear.cli.main import main
from forebear.tasks.runs.layout import earlier_weights
from forebear.weights.native_format import load_file
from tests.cli.making import folder, table


def train(place: Path, out: str, *more: object) -> list[str]:
    words = (
        "train", "--data", f"folder:{place / 'data'}", "--network", place / "tiny.toml",
        "--dialect", "torchvision", "--out", place / out, "--size", 16, "--batch", 8,
        "--threads", 1, "--precision", "fp32", "--lr", 0.05, "--set", "schedule=cosine", *more,
    )  # fmt: skip
    return list(map(str, words))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder(tmp_path / "data", 8)
    table(tmp_path / "tiny.toml")
    return tmp_path


def metrics(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.long
def test_a_finished_run_goes_on_as_if_it_had_been_planned_longer(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = place / "run"
    assert main(train(place, "run", "--epochs", 2)) == 0
    before = (run / "model.safetensors").read_bytes()
    assert main(["train", "--resume", str(run), "--epochs", "4"]) == 0
    said = capsys.readouterr().err
    assert "extending the run from epoch 2 to 4: the learning rate goes on as if 4 epochs" in said
    assert (run / earlier_weights(2)).read_bytes() == before
    lines = metrics(run)
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert lines[1]["lr"] < 0.01 < lines[2]["lr"]  # at its end, then in the middle of a longer one
    assert json.loads((run / "settings.json").read_text())["recipe"]["epochs"] == 4
    assert load_file(run / "model.safetensors").card.metrics["epochs"] == 4
    assert not (run / "checkpoints").exists()


@pytest.mark.long
def test_what_cannot_be_extended_says_why(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = place / "run"
    assert main(train(place, "run", "--epochs", 2)) == 0
    capsys.readouterr()
    assert main(["train", "--resume", str(run)]) == 2
    assert "the run is finished. Expected one that broke off. To train longer, add --epochs" in (
        capsys.readouterr().err
    )
    assert main(["train", "--resume", str(run), "--epochs", "2"]) == 2
    assert (
        "--epochs 2, but the run has 2 epochs. Expected a larger total" in capsys.readouterr().err
    )
    (run / "model.safetensors").unlink()
    assert main(["train", "--resume", str(run), "--epochs", "5"]) == 2
    assert "the run is not finished. Expected --epochs for a finished run" in (
        capsys.readouterr().err
    )
    assert main(train(place, "steps", "--set", "epochs=0", "--set", "iterations=6")) == 0
    capsys.readouterr()
    assert main(["train", "--resume", str(place / "steps"), "--epochs", "9"]) == 2
    assert "planned in steps or for a time" in capsys.readouterr().err


@pytest.mark.long
def test_a_kill_right_after_the_extension_loses_nothing(place: Path) -> None:
    run = place / "run"
    assert main(train(place, "run", "--epochs", 2)) == 0
    from forebear.tasks.train.resume.extend import extend_run

    extend_run(run, 3)  # killed here: no checkpoint, no model.safetensors
    assert not (run / "model.safetensors").exists()
    assert main(["train", "--resume", str(run)]) == 0
    assert [line["epoch"] for line in metrics(run)] == [1, 2, 3]


def test_the_page_of_a_run_that_was_killed_at_its_end_is_written_anew(place: Path) -> None:
    run = place / "run"
    assert main(train(place, "run", "--epochs", 2)) == 0
    (run / "index.html").write_text("unfinished: 1 of 2 epochs done")
    assert main(["train", "--resume", str(run)]) == 2
    assert "unfinished" not in (run / "index.html").read_text()


def test_settings_that_are_changed_or_damaged_are_refused_by_name(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = stopped(place, "run", monkeypatch)
    whole = (run / "settings.json").read_text()
    for old, new, said in (
        ('"lr": 0.05', '"lr": 0.5', "settings.json was changed since"),
        ('"threads": 1', '"threads": 100000', "threads=100000: expected 1 to 1,024"),
        ('"units": 1', '"units": 1000000000', "its settings are not those of a run"),
        ('"recipe"', '"recipes"', "recipe is missing"),
        ('"classes": [', '"klasses": [', "classes is missing"),
        ('"fingerprint": "', '"fingerprint": 5, "x": "', "data.fingerprint=5"),
    ):
        assert old in whole, old
        (run / "settings.json").write_text(whole.replace(old, new))
        capsys.readouterr()
        assert main(["train", "--resume", str(run)]) == 2, new
        err = capsys.readouterr().err
        assert said in err, (new, err)
        assert "Traceback" not in err
    (run / "settings.json").write_text(whole)
    assert main(["train", "--resume", str(run)]) == 0


def test_a_checkpoint_of_another_run_is_not_taken(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, other = stopped(place, "run", monkeypatch), stopped(place, "other", monkeypatch, seed=5)
    newest = max((other / "checkpoints").iterdir())
    shutil.copy(newest, run / "checkpoints" / "step-00000099.safetensors")
    os.mkfifo(run / "checkpoints" / "step-00000100.safetensors")
    assert main(["train", "--resume", str(run)]) == 0
    err = capsys.readouterr().err
    assert "step-00000099.safetensors: damaged (it is of another run); the one before" in err
    assert "step-00000100.safetensors: damaged (it is a pipe, not a file); the one before" in err


def stopped(place: Path, out: str, patch: pytest.MonkeyPatch, seed: int = 0) -> Path:
    """A run that a signal ended in its second epoch."""
    import signal

    import forebear
    from forebear.tasks.train.events import StepEnd

    def stop(event: object) -> None:
        if isinstance(event, StepEnd) and event.step == 3:
            signal.raise_signal(signal.SIGTERM)

    with forebear.observe(stop):
        assert main(train(place, out, "--epochs", 2, "--seed", seed)) == 143
    return place / out


@pytest.mark.parametrize("name", ["settings.json", "metrics.jsonl", "model.safetensors"])
def test_a_run_with_a_link_is_not_extended(
    name: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = place / "run"
    run.mkdir()
    (place / "other").write_bytes(b"\xee")
    (run / name).symlink_to(place / "other")
    assert main(["train", "--resume", str(run), "--epochs", "4"]) == 2
    assert f"{run / name}: a link" in capsys.readouterr().err
    assert (place / "other").read_bytes() == b"\xee"
