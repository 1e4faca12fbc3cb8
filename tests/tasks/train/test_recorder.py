"""The calibration that a run stores with its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forebear.cli.main import main
from forebear.network.calibration import Calibration
from forebear.tasks.calibration import calibrate
from forebear.tasks.evaluate import Evaluation
from forebear.tasks.runs.folder import RunFolder
from forebear.tasks.runs.metrics import Epoch
from forebear.tasks.runs.read import load_run
from forebear.tasks.train.events import EpochEnd, Event, observe
from tests.cli.making import folder, table


def words(tmp_path: Path, *more: Any, out: str = "run") -> list[str]:
    data = tmp_path / "data"
    if not data.exists():
        folder(data, 60)
        table(tmp_path / "tiny.toml")
    given = [
        "train", "--data", f"folder:{data}", "--network", tmp_path / "tiny.toml", "--dialect",
        "torchvision", "--size", 16, "--epochs", 3, "--threads", 1, "--out", tmp_path / out, *more,
    ]  # fmt: skip
    return [str(word) for word in given]


def stored(run: Path, name: str = "model.safetensors") -> Calibration | None:
    return load_run(run / name).card.calibration


def test_the_last_validation_is_what_the_weights_are_calibrated_on(tmp_path: Path) -> None:
    ends: list[EpochEnd] = []

    def watch(event: Event) -> None:
        if isinstance(event, EpochEnd):
            ends.append(event)

    with observe(watch):
        assert main(words(tmp_path, "--unknown", 0.1)) == 0
    last = ends[-1].evaluation
    found = stored(tmp_path / "run")
    assert found is not None
    assert isinstance(last, Evaluation)
    assert last.kept is not None
    assert last.kept.rows.tolist() == list(range(last.images))
    card = load_run(tmp_path / "run").card
    fit = calibrate(
        last.kept.logits, last.labels, unknown=0.1, fingerprint=card.metrics["fingerprint"]
    )
    assert found == fit.calibration
    assert (found.images, found.unknown_rate) == (27, 0.1)
    best = max(ends, key=lambda end: end.epoch.val_accuracy).evaluation
    kept = stored(tmp_path / "run", "best.safetensors")
    assert isinstance(best, Evaluation)
    assert best.kept is not None
    assert kept is not None
    assert kept.temperature == calibrate(best.kept.logits, best.labels).calibration.temperature


def test_a_run_that_breaks_off_ends_in_the_same_calibration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(words(tmp_path, "--unknown", 0.1, out="whole")) == 0
    epoch = RunFolder.epoch

    def stop_after_two(folder: RunFolder, done: Epoch) -> None:
        epoch(folder, done)
        if done.epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "epoch", stop_after_two)
    assert main(words(tmp_path, "--unknown", 0.1, out="broken")) == 130
    monkeypatch.setattr(RunFolder, "epoch", epoch)
    broken = tmp_path / "broken"
    assert main(["train", "--resume", str(broken), "--threads", "1"]) == 0
    assert stored(broken) is not None
    for name in ("model.safetensors", "best.safetensors"):
        assert stored(broken, name) == stored(tmp_path / "whole", name)


def test_weights_that_were_tested_have_the_calibration_of_the_best(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(tmp_path, "--hold-out", 0.2)) == 0
    found = stored(tmp_path / "run")
    assert found == stored(tmp_path / "run", "best.safetensors")
    assert found is not None
    said = f"calibrated on {found.images} validation images: temperature {found.temperature:.3f}, "
    assert said in capsys.readouterr().err


def test_images_that_may_be_a_test_set_calibrate_nothing(tmp_path: Path) -> None:
    words(tmp_path)
    for part in ("train", "val"):
        folder(tmp_path / "both" / part, 25)
    given = words(tmp_path, "--data", f"folder:{tmp_path / 'both'}")
    assert main(given) == 0
    assert stored(tmp_path / "run") is None


def test_too_few_images_calibrate_nothing(tmp_path: Path) -> None:
    assert main(words(tmp_path, "--unknown", 0.03)) == 0  # 27 images: not one may be unknown
    assert stored(tmp_path / "run") is None
    assert not np.isnan(load_run(tmp_path / "run").card.metrics["held_out_loss"])
