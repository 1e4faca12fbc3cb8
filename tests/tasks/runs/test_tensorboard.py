from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from forebear.cli.main import main
from forebear.errors import ForebearError
from forebear.tasks.runs.layout import TENSORBOARD
from forebear.tasks.runs.tensorboard import Scalars
from tests.cli.making import folder


def line(step: int, **more: Any) -> dict[str, Any]:
    return {"epoch": step / 10, "step": step, "loss": 1 / step, "val_accuracy": 0.5, **more}


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Every point that TensorBoard itself finds, by its tag."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / TENSORBOARD))
    events.Reload()
    tags = events.Tags()["scalars"]
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags}


def test_tensorboard_finds_every_number_over_the_steps(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    scalars = Scalars(tmp_path)
    scalars.epoch(line(10, skipped=0, losses=[1.0], val_loss=float("nan"), val_balanced=None))
    scalars.epoch(line(20, skipped=3, val_balanced=0.25, val_macro_f1=0.125))
    found = read(tmp_path)  # flushed while the run goes on
    assert [step for step, _ in found["loss/training"]] == [10, 20]
    assert [value for _, value in found["loss/training"]] == pytest.approx([0.1, 0.05])
    assert found["accuracy/validation"] == [(10, 0.5), (20, 0.5)]
    assert found["run/steps skipped"] == [(10, 0), (20, 3)]
    assert "loss/validation" not in found
    assert found["accuracy/validation, balanced"] == [(20, 0.25)]
    assert found["F1/validation, mean of the classes"] == [(20, 0.125)]
    scalars.close()


def test_a_resumed_run_takes_the_place_of_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    first = Scalars(tmp_path)
    for step in (10, 20, 30):
        first.epoch(line(step))
    first.close()
    second = Scalars(tmp_path)
    second.epoch(line(20, val_accuracy=0.75))
    second.close()
    assert read(tmp_path)["accuracy/validation"] == [(10, 0.5), (20, 0.75)]


def test_without_tensorboard_the_remedy_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ForebearError, match=r"pip install 'forebear\[tensorboard\]'"):
        Scalars(tmp_path)


def test_a_run_without_tensorboard_is_refused_before_its_images_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    data, run = folder(tmp_path / "data"), tmp_path / "run"
    words = f"train --data folder:{data} --size 16 --epochs 1 --out {run} --tensorboard"
    assert main(words.split()) == 2
    (told,) = capsys.readouterr().err.splitlines()  # not even the line that announces the run
    assert told.startswith("forebear: tensorboard cannot be imported")
    assert not run.exists()


def test_a_run_without_an_epoch_leaves_nothing(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    Scalars(tmp_path).close()
    assert not list(tmp_path.iterdir())
