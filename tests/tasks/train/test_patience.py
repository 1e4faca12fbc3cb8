"""The best weights by a metric, and the end of a training that no longer improves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from forebear.cli.main import main
from forebear.tasks.runs.choosing import MEASURES, Metric
from forebear.tasks.runs.metrics import Epoch
from forebear.tasks.train import artifacts, prepare
from forebear.tasks.train.patience import Patience
from forebear.tasks.train.state import TrainState
from forebear.weights.native_format import digest, load_file
from tests.cli.making import folder, image, table
from tests.tasks.runs.test_folder import EPOCH
from tests.tasks.train.test_crash import Crash, at, crash, marks, metrics, resume, train


def epochs(*accuracies: float) -> list[Epoch]:
    numbered = enumerate(accuracies, start=1)
    return [replace(EPOCH, epoch=number, val_accuracy=value) for number, value in numbered]


def test_only_a_better_value_is_an_improvement() -> None:
    patience = Patience(measure=MEASURES["top1"], most=2, state=TrainState())
    taken = []
    for epoch in epochs(0.0, 0.5, 0.5, 0.6, 0.5, 0.6):
        assert not patience.over
        taken.append(patience.take(epoch))
    assert taken == [True, True, False, True, False, False]  # the first one always is
    assert patience.over
    assert patience.line == (
        "training ends: no better top-1 accuracy in 2 evaluations (--patience). Best: 60.00% after "
        "epoch 4, in best.safetensors"
    )


def test_without_patience_no_number_ends_the_training() -> None:
    patience = Patience(measure=MEASURES["top1"], most=None, state=TrainState())
    for epoch in epochs(*[0.5] * 100):
        patience.take(epoch)
    assert not patience.over


def test_a_resumed_run_knows_the_best_value_and_how_long_it_has_waited() -> None:
    state = TrainState(waited=1)
    before = epochs(0.5, 0.8, 0.7)
    patience = Patience(measure=MEASURES["top1"], most=2, state=state, epochs=before)
    assert patience.best == before[1]
    assert state.waited == 1  # as the checkpoint says: the epochs are not counted again
    assert not patience.take(epochs(0.75)[0])
    assert patience.over


def test_a_value_that_is_not_finite_is_never_better() -> None:
    patience = Patience(measure=MEASURES["loss"], most=1, state=TrainState())
    assert patience.take(replace(EPOCH, val_loss=float("nan"), val_images=9))
    assert patience.take(replace(EPOCH, val_loss=2.0, val_images=9))
    assert not patience.take(replace(EPOCH, val_loss=float("nan"), val_images=9))


# Whole runs

LATE = ("--epochs", 12, "--patience", 2)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("patience")
    folder(found / "data")
    table(found / "tiny.toml")
    return found


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "can_draw", bool)
    monkeypatch.setattr(artifacts, "can_draw", bool)
    torch.set_num_threads(1)


def chosen(out: Path) -> tuple[str, Mapping[str, Any]]:
    """The hash of the best weights, and what they say of their evaluation."""
    best = load_file(out / "best.safetensors")
    return digest(best.state_dict()), best.card.metrics


@pytest.mark.long
def test_a_run_that_does_not_improve_ends_and_one_that_broke_off_ends_in_the_same_bits(
    tmp_path: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = tmp_path / "whole"
    assert main(train(place, whole, *LATE, "--metric", "loss", "--set", "schedule=constant")) == 0
    told = capsys.readouterr().err
    losses = [line["val_loss"] for line in metrics(whole)]
    best = int(np.argmin(losses))
    assert best == len(losses) - 3 < 9  # two evaluations later it ended, before epoch 12

    line = f"no better validation loss in 2 evaluations (--patience). Best: {losses[best]:.4f} "
    assert f"{line}after epoch {best + 1}, in best.safetensors" in told
    assert chosen(whole)[1]["held_out_loss"] == pytest.approx(losses[best])
    settings = json.loads((whole / "settings.json").read_text())
    assert (settings["request"]["metric"], settings["request"]["patience"]) == ("loss", 2)

    points = [("before step", 7 * (best + 2) + 2), ("after saving", 6), ("before weights", 1)]
    for number, point in enumerate(points):
        out = tmp_path / str(number)
        words = train(place, out, *LATE, "--metric", "loss", "--set", "schedule=constant")
        with at(*point, crash), pytest.raises(Crash):
            main(words)
        assert resume(out) == 0
        assert marks(out) == marks(whole)
        assert chosen(out)[0] == chosen(whole)[0]


@pytest.mark.long
def test_a_run_that_is_extended_counts_from_there(tmp_path: Path, place: Path) -> None:
    out = tmp_path / "run"
    words = ("--metric", "loss", "--set", "lr=1e-7", "--set", "schedule=constant", "--set", "ema=0")
    assert main(train(place, out, "--epochs", 20, "--patience", 1, *words)) == 0
    done = len(metrics(out))
    assert done < 20
    assert resume(out, "--epochs", done + 3) == 0
    assert done < len(metrics(out)) <= done + 3


@pytest.mark.parametrize("metric", ["top1", "balanced", "macro-f1", "loss"])
@pytest.mark.long(after=1)
def test_the_best_weights_are_those_of_the_best_epoch_by_the_metric(
    tmp_path: Path, place: Path, metric: Metric, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([(0.3, 0.1, 0.4, 2.0), (0.2, 0.6, 0.3, 3.0), (0.3, 0.5, 0.5, 1.0)])
    names = ("val_accuracy", "val_balanced", "val_macro_f1", "val_loss")
    take = Patience.take

    def given(self: Patience, epoch: Epoch) -> bool:
        changed: dict[str, Any] = dict(zip(names, next(values), strict=True))
        return take(self, replace(epoch, **changed))

    monkeypatch.setattr(Patience, "take", given)
    assert main(train(place, tmp_path / "run", "--metric", metric)) == 0
    best = {"top1": 1, "balanced": 2, "macro-f1": 3, "loss": 3}[metric]
    assert chosen(tmp_path / "run")[1]["epochs"] == best


def test_the_line_of_an_epoch_has_the_metric(
    tmp_path: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(train(place, tmp_path / "run", "--metric", "macro-f1")) == 0
    value = metrics(tmp_path / "run")[0]["val_macro_f1"]
    assert f"  macro-F1 {value:.2%}  " in capsys.readouterr().err
    assert main(train(place, tmp_path / "other", "--metric", "loss")) == 0
    assert "macro-F1" not in capsys.readouterr().err


def own_validation(path: Path) -> Path:
    from PIL import Image

    for part in ("train", "val"):
        for kind in range(2):
            (path / part / str(kind)).mkdir(parents=True)
            for seed in range(8):
                file = path / part / str(kind) / f"{seed}.png"
                Image.fromarray(image(kind, seed + 99 * (part == "val"))).save(file)
    return path


def test_a_validation_set_that_measures_the_result_does_not_end_the_training(
    tmp_path: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ("--data", f"folder:{own_validation(tmp_path / 'own')}")
    assert main(train(place, tmp_path / "run", *data, "--patience", 3)) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"forebear: --patience 3: {data[1]} has a validation set of its own, and its accuracy "
        "would be too high if it also decided when the training ends. Expected validation images "
        "that are split off from the training images. Pass --hold-out 0.1 as well: the data's own "
        "validation set is then the test set."
    ]
    assert not (tmp_path / "run").exists()
    assert main(train(place, tmp_path / "run", *data, "--metric", "balanced")) == 0
    assert "--metric balanced: no best.safetensors is written" in capsys.readouterr().err
    assert not (tmp_path / "run" / "best.safetensors").exists()
    words = train(place, tmp_path / "held", *data, "--patience", 3, "--hold-out", 0.25)
    assert main(words) == 0
    assert (tmp_path / "held" / "best.safetensors").is_file()


def test_a_budget_and_patience_end_a_run_whichever_is_first(
    tmp_path: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = train(place, tmp_path / "run", "--patience", 1, "--set", "lr=1e-9", "--budget", "60s")
    at_epochs = words.index("--epochs")
    del words[at_epochs : at_epochs + 2]
    assert main(words) == 0
    assert "training ends: no better top-1 accuracy in 1 evaluation" in capsys.readouterr().err
    assert metrics(tmp_path / "run")[-1]["seconds"] < 50
