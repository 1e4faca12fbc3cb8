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
from forebear.tasks.runs.plots import can_draw
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


@pytest.mark.long
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


@pytest.mark.long
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


@pytest.mark.long
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


@pytest.mark.long
def test_too_few_images_calibrate_nothing(tmp_path: Path) -> None:
    assert main(words(tmp_path, "--unknown", 0.03)) == 0  # 27 images: not one may be unknown
    assert stored(tmp_path / "run") is None
    assert not np.isnan(load_run(tmp_path / "run").card.metrics["held_out_loss"])


@pytest.mark.long
def test_the_card_has_balanced_accuracy_and_macro_f1_with_their_intervals(tmp_path: Path) -> None:
    ends: list[EpochEnd] = []

    def watch(event: Event) -> None:
        if isinstance(event, EpochEnd):
            ends.append(event)

    with observe(watch):
        assert main(words(tmp_path)) == 0
    last = ends[-1].evaluation
    assert isinstance(last, Evaluation)
    metrics = load_run(tmp_path / "run").card.metrics
    found = last.intervals()
    assert metrics["held_out_balanced"] == last.balanced
    assert metrics["held_out_macro_f1"] == last.macro_f1
    assert tuple(metrics["held_out_balanced_interval"]) == found.balanced
    assert tuple(metrics["held_out_macro_f1_interval"]) == found.macro_f1
    assert main(words(tmp_path, "--hold-out", 0.2, out="tested")) == 0
    metrics = load_run(tmp_path / "tested").card.metrics
    low, high = metrics["test_balanced_interval"]
    assert low <= metrics["test_balanced"] <= high
    low, high = metrics["test_macro_f1_interval"]
    assert low <= metrics["test_macro_f1"] <= high


@pytest.mark.long
def test_the_page_of_a_run_has_each_part_and_needs_no_other_file(tmp_path: Path) -> None:
    assert main(words(tmp_path, "--hold-out", 0.2)) == 0
    page = (tmp_path / "run" / "index.html").read_text(encoding="utf-8")
    assert "<th>training</th><th>validation</th><th>test</th>" in page
    assert "<h2>Labels to look at</h2>" in page
    assert "<h2>Calibration</h2>" in page
    drawn = (tmp_path / "run" / "calibration.png").is_file()
    assert drawn == can_draw() == ("Reliability diagram" in page)
    assert page.count("<img") == page.count('src="data:image/')
    assert "href=" not in page
    assert len(page) < 2_000_000
