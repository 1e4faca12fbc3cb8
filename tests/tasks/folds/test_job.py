"""forebear train --folds, from a folder of images to the results, stopped and continued."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import forebear
from forebear.cli.main import main
from forebear.errors import RunError, StopError
from forebear.tasks.folds import job
from forebear.tasks.folds.job import cross_validate
from forebear.tasks.runs.read import load_run
from forebear.tasks.train.events import EpochEnd, Event, observe
from forebear.tasks.train.request import TrainConfig
from tests.cli import making
from tests.tasks.labels_making import LABELS, multi_table
from tests.tasks.labels_making import words as multi_words


def words(tmp_path: Path, *more: Any, verb: str = "train") -> list[str]:
    if not (tmp_path / "data").exists():
        making.folder(tmp_path / "data", 8)
        making.table(tmp_path / "tiny.toml")
    given = ("--data", f"folder:{tmp_path / 'data'}")
    net = ("--network", tmp_path / "tiny.toml", "--dialect", "torchvision", "--size", 16)
    length = () if "--budget" in more else ("--epochs", 2)
    same = ("--threads", 1, "--deterministic") if "--budget" not in more else ()
    return [verb, *map(str, (*given, *net, *length, *same, "--out", tmp_path / "out", *more))]


def config(tmp_path: Path, **more: Any) -> TrainConfig:
    words(tmp_path)
    values = {
        "data": f"folder:{tmp_path / 'data'}",
        "network": str(tmp_path / "tiny.toml"),
        "dialect": "torchvision",
        "size": 16,
        "epochs": 2,
        "threads": 1,
        "deterministic": True,
        "out": tmp_path / "out",
        "device": "cpu",
    }
    return TrainConfig(**{**values, **more})


def table(path: Path) -> list[dict[str, str]]:
    with (path / "out_of_fold.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.long
def test_each_fold_leaves_a_run_and_all_of_them_a_table_a_page_and_the_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(tmp_path, "--folds", 3)) == 0
    lines = capsys.readouterr().out.splitlines()
    out = tmp_path / "out"
    names = ["fold-1", "fold-2", "fold-3", "folds.json", "index.html", "out_of_fold.csv"]
    assert sorted(path.name for path in out.iterdir()) == names
    rows = table(out)
    pictures = sorted(map(str, (tmp_path / "data").rglob("*.png")))
    assert sorted(row["path"] for row in rows) == pictures  # each exactly once
    results = json.loads((out / "folds.json").read_text())
    for result in results["results"]:
        own = [row for row in rows if row["fold"] == str(result["fold"])]
        right = sum(row["label"] == row["predicted"] for row in own)
        assert (len(own), right / len(own)) == (result["images"], result["top1"])
    assert sorted(result["images"] for result in results["results"]) == [8, 8, 8]
    values = [result["top1"] for result in results["results"]]
    assert results["mean"]["top1"] == pytest.approx(sum(values) / 3)
    assert f"Run folder: {out / 'fold-2'}" in lines[1]
    assert lines[3].startswith(f"top-1 accuracy: mean {sum(values) / 3:.2%}, standard deviation ")
    assert lines[-1].startswith("out-of-fold: ")
    assert " of 24 images correct (95% interval: " in lines[-1]
    assert lines[-1].endswith(f"Predictions: {out / 'out_of_fold.csv'}")


@pytest.mark.long
def test_multi_label_images_have_map_f1_and_a_prediction_a_label(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(multi_words(tmp_path, "--folds", 3, "--epochs", 2, count=48)) == 0
    lines = capsys.readouterr().out.splitlines()
    out = tmp_path / "run"
    rows, results = table(out), json.loads((out / "folds.json").read_text())
    assert len(rows) == len({row["path"] for row in rows}) == 48
    for result in results["results"]:
        own = [row for row in rows if row["fold"] == str(result["fold"])]
        right = sum(
            all(row[f"label_{name}"] == row[f"predicted_{name}"] for name in LABELS) for row in own
        )
        assert (len(own), right / len(own)) == (result["images"], result["exact_match"])
    assert sorted(result["images"] for result in results["results"]) == [16, 16, 16]
    assert lines[0].startswith("fold 1: mAP ")
    assert [line.partition(":")[0] for line in lines[3:7]] == [
        "mAP", "macro-F1", "micro-F1", "exact matches",
    ]  # fmt: skip
    assert lines[-1].startswith(
        f"out-of-fold: mAP {results['out_of_fold']['mAP']:.2%} of 48 images"
    )
    assert [row["name"] for row in results["labels"]] == list(LABELS)
    data = ["--data", f"csv:{tmp_path / 'data' / 'labels.csv'}", "--json"]
    assert main(["evaluate", str(out / "fold-2"), *data]) == 0
    told = capsys.readouterr()
    assert "16 validation images, of 48 in all: the network was trained on the others" in told.err
    assert json.loads(told.out)["mAP"] == pytest.approx(results["results"][1]["mAP"], abs=0.02)


def test_a_label_with_fewer_images_than_folds_is_one_clear_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = multi_table(tmp_path / "data", 24)
    head, *rows = file.read_text().splitlines()
    rare = [f"{row},{int(at < 2)}" for at, row in enumerate(rows)]
    file.write_text("\n".join([f"{head},rare", *rare]))
    assert main(["train", "--data", f"csv:{file}", "--folds", "3", "--out", "x"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("forebear: folds=3: label rare has only 2 different images. Expected")


@pytest.mark.slow
def test_evaluate_takes_the_validation_images_of_the_fold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = cross_validate(config(tmp_path), 3)
    capsys.readouterr()
    data = f"folder:{tmp_path / 'data'}"
    for fold in found.folds:
        assert main(["evaluate", str(fold.folder), "--data", data, "--json"]) == 0
        told = capsys.readouterr()
        assert "validation images, of 24 in all: the network was trained on the others" in told.err
        measured = json.loads(told.out)
        assert measured["images"] == fold.images
        assert measured["top1"] == fold.measures["top1"]
        assert measured["loss"] > 0
        assert (
            main(["evaluate", str(fold.folder), "--data", data, "--part", "train", "--json"]) == 0
        )
        assert json.loads(capsys.readouterr().out)["images"] == 24 - fold.images
    assert load_run(found.folds[1].folder).card.metrics["fold"] == "2/3"


class Stop(Exception):  # noqa: N818 - stands for kill -9
    """Ends a run in the middle."""


def stopped(tmp_path: Path, fold: int) -> None:
    """A cross-validation that ends in the second epoch of a fold."""
    ends = []

    def end(event: Event) -> None:
        if isinstance(event, EpochEnd):
            ends.append(event)
            if len(ends) == 2 * (fold - 1) + 2:
                raise Stop

    with observe(end), pytest.raises(Stop):
        cross_validate(config(tmp_path, every=1), 3)


@pytest.mark.slow
def test_what_was_stopped_continues_with_the_same_bits(tmp_path: Path) -> None:
    cross_validate(config(tmp_path, out=tmp_path / "whole"), 3)
    stopped(tmp_path, 2)
    out = tmp_path / "out"
    assert not (out / "out_of_fold.csv").exists()
    assert any((out / "fold-2" / "checkpoints").glob("step-*"))
    first = (out / "fold-1" / "model.safetensors").stat().st_mtime_ns
    said: list[str] = []
    cross_validate(config(tmp_path), 3, say=said.append)
    assert said == ["fold 1/3: finished, kept", "fold 2/3: resuming", "fold 3/3: training"]
    assert (out / "fold-1" / "model.safetensors").stat().st_mtime_ns == first
    assert (out / "out_of_fold.csv").read_bytes() == (
        tmp_path / "whole" / "out_of_fold.csv"
    ).read_bytes()
    said.clear()
    cross_validate(config(tmp_path), 3, say=said.append)
    assert said == [f"fold {number}/3: finished, kept" for number in (1, 2, 3)]


@pytest.mark.parametrize(("replaces", "more"), [(False, ""), (True, " and without --replace")])
def test_a_signal_says_how_to_go_on_with_all_folds(
    tmp_path: Path, replaces: bool, more: str
) -> None:
    def end(event: Event) -> None:
        if isinstance(event, EpochEnd):
            raise StopError("stopped by a signal after step 3.", 15)

    with observe(end), pytest.raises(StopError) as caught:
        cross_validate(config(tmp_path, replace=replaces), 3)
    assert str(caught.value) == (
        "stopped by a signal after step 3. To go on: the same command with --out "
        f"{tmp_path / 'out'}{more}"
    )
    assert caught.value.code == 143


@pytest.mark.slow
def test_a_fold_that_was_killed_before_its_first_checkpoint_starts_again(tmp_path: Path) -> None:
    stopped(tmp_path, 1)
    out = tmp_path / "out"
    shutil.rmtree(out / "fold-1" / "checkpoints")
    said: list[str] = []
    found = cross_validate(config(tmp_path), 3, say=said.append)
    assert said[0] == "fold 1/3: training"
    assert len(found.folds) == 3


@pytest.mark.parametrize(
    ("change", "count", "message"),
    [
        ({"seed": 7}, 3, "holds another cross-validation (seed: None then, 7 now). Expected the"),
        ({}, 2, "holds another cross-validation (folds: 3 then, 2 now)."),
        ({"device": "auto", "workers": 0}, 3, ""),
    ],
)
@pytest.mark.long
def test_other_settings_do_not_continue_it(
    tmp_path: Path, change: dict[str, Any], count: int, message: str
) -> None:
    stopped(tmp_path, 1)
    if not message:
        assert cross_validate(config(tmp_path, **change), count).folds
        return
    with pytest.raises(RunError) as caught:
        cross_validate(config(tmp_path, **change), count)
    assert str(caught.value).startswith(f"{tmp_path / 'out'}: {message}")


@pytest.mark.slow
def test_other_images_do_not_continue_it_and_replace_starts_again(tmp_path: Path) -> None:
    stopped(tmp_path, 2)
    (tmp_path / "data" / "down" / "3.png").unlink()
    with pytest.raises(RunError, match=r"have changed since the cross-validation began\. "):
        cross_validate(config(tmp_path), 3)
    said: list[str] = []
    cross_validate(config(tmp_path, replace=True, epochs=1), 3, say=said.append)
    assert said == [f"fold {number}/3: training" for number in (1, 2, 3)]
    assert len(table(tmp_path / "out")) == 23


@pytest.mark.slow
def test_a_run_of_other_images_in_the_place_of_a_fold_is_refused(tmp_path: Path) -> None:
    cross_validate(config(tmp_path, epochs=1), 3)
    out = tmp_path / "out"
    shutil.rmtree(out / "fold-2")
    shutil.copytree(out / "fold-1", out / "fold-2")
    with pytest.raises(RunError, match=r"trained on other images than those of fold 2 of 3\."):
        cross_validate(config(tmp_path, epochs=1), 3)


def test_a_folder_of_something_else_or_a_damaged_note_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match=r"holds files already, and they are no cross-validation\."):
        cross_validate(config(tmp_path), 3)
    (out / "folds.json").write_text("[1")
    with pytest.raises(RunError, match=r"its folds\.json cannot be read \("):
        cross_validate(config(tmp_path), 3)
    assert (out / "notes.txt").read_text() == "mine"
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"is a file\. Expected a folder to make\."):
        cross_validate(config(tmp_path, out=tmp_path / "file"), 3)


def test_the_budget_is_divided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[TrainConfig] = []
    monkeypatch.setattr(job, "train", asked.append)
    monkeypatch.setattr(job, "_measured", lambda *_: pytest.fail("no run was trained"))
    given = config(tmp_path, budget=60.0, epochs=None, deterministic=False)
    with pytest.raises(pytest.fail.Exception):
        cross_validate(given, 3)
    assert [one.budget for one in asked] == [0.95 * 60 / 3] * 3
    assert [one.fold for one in asked] == ["1/3", "2/3", "3/3"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--folds", 1), "folds=1: expected 2 or more. Pass such a number, or leave it out"),
        (("--folds", 0), "folds=0: expected 2 or more."),
        (("--folds", 3, "--seeds", 2), "--folds 3 and --seeds 2: each of them trains several runs"),
        (("--folds", 3, "--hold-out", 0.2), "hold_out=0.2 and folds: each fold is the validation"),
        (("--folds", 9), "folds=9: class across has only 8 different images. Expected one or more"),
    ],
)
def test_what_does_not_fit_is_one_clear_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[Any, ...], message: str
) -> None:
    assert main(words(tmp_path, *flags)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"forebear: {message}")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("{group}/*.png", "class across has 8 images, all of them in the group across by"),
        ("{group}#.png", "class across has only 2 separate groups. Expected one or more for each"),
    ],
)
def test_groups_that_cannot_be_distributed_are_one_clear_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pattern: str, message: str
) -> None:
    flags = words(tmp_path, "--folds", 3, "--group-by", pattern)
    for path in (tmp_path / "data").rglob("*.png"):
        path.rename(path.with_name(f"{'ab'[int(path.stem) % 2]}{path.name}"))
    assert main(flags) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (tmp_path / "out").exists()


def test_one_class_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = words(tmp_path, "--folds", 2)
    for name in making.CLASSES[1:]:
        shutil.rmtree(tmp_path / "data" / name)
    assert main(flags) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "only one class, across, so a network that always answers it is right" in line
    assert not (tmp_path / "out").exists()


def test_several_processes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"^folds=3 with several processes: "):
        cross_validate(config(tmp_path), 3)


@pytest.mark.slow
def test_the_datas_own_validation_set_is_the_test_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words(tmp_path)
    (tmp_path / "data").rename(tmp_path / "train")
    (tmp_path / "data").mkdir()
    (tmp_path / "train").rename(tmp_path / "data" / "train")
    making.folder(tmp_path / "data" / "val", 2)
    assert main(words(tmp_path, "--folds", 2)) == 0
    out = capsys.readouterr().out
    assert "test accuracy: mean " in out
    assert len(table(tmp_path / "out")) == 24
    run, data = tmp_path / "out" / "fold-1", f"folder:{tmp_path / 'data'}"
    for part, count in ((("--part", "test"), 6), ((), 12)):
        assert main(["evaluate", str(run), "--data", data, "--json", *part]) == 0
        assert json.loads(capsys.readouterr().out)["images"] == count


@pytest.mark.slow
def test_resume_of_one_fold_has_the_same_split(tmp_path: Path) -> None:
    stopped(tmp_path, 2)
    run = tmp_path / "out" / "fold-2"
    settings = json.loads((run / "settings.json").read_text())
    assert settings["request"]["fold"] == "2/3"
    result = forebear.resume(run, device="cpu", threads=1)
    assert result.validation.images == settings["data"]["held_out"]
    metrics = load_run(run).card.metrics
    assert metrics["fingerprint"] == settings["data"]["fingerprint"]
