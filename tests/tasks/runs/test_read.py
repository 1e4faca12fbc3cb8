"""What is read of a run's folder: finished or not, damaged or older."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from forebear.errors import RunError
from forebear.tasks.runs.layout import METRICS, SETTINGS, WEIGHTS
from forebear.tasks.runs.read import read_run
from tests.tasks.making import TINY, Made, write_run


def test_a_finished_run_is_read_whole(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run"))
    assert (run.network, run.data, run.finished) == ("paper/resnet20", "digits", True)
    assert run.column("val_accuracy") == [0.5, 0.75, 0.7]
    assert run.last("step") == 69
    assert run.best == 1
    assert run.planned == 3
    assert run.tested is None
    assert run.parameters == sum(value.numel() for value in TINY.parameters())


def test_an_unfinished_run_has_no_weights(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", Made(accuracies=(), finished=False))
    run = read_run(path)
    assert not run.finished
    assert (run.epochs, run.best) == ((), None)
    assert math.isnan(run.last("loss"))
    (path / METRICS).unlink()
    assert read_run(path).epochs == ()


def test_what_was_tested_is_in_the_weights(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", Made(test=(0.625, 40)))
    assert read_run(path).tested == (0.625, 40)
    (path / WEIGHTS).write_bytes(b"damaged")
    assert read_run(path).tested is None


def test_of_equal_accuracies_the_first_is_the_best(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", Made(accuracies=(0.5, 0.8, 0.8, 0.1)))
    assert read_run(path).best == 1


def test_the_best_epoch_is_chosen_by_the_metric_of_the_run(tmp_path: Path) -> None:
    for metric, best in (("loss", 2), ("balanced", 0), ("top1", 1), ("other", 1), ([], 1)):
        made = Made(more={"request": {"metric": metric}})
        path = write_run(tmp_path / str(metric), made)
        lines = [json.loads(line) for line in (path / METRICS).read_text().splitlines()]
        lines[0]["val_balanced"] = 0.1  # the others have none
        (path / METRICS).write_text("".join(json.dumps(line) + "\n" for line in lines))
        assert read_run(path).best == best  # the loss falls in every epoch


def test_a_line_that_was_cut_or_is_no_object_is_left_out(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run")
    with (path / METRICS).open("a") as file:
        file.write('[1]\n{"epoch": 4, "val_acc')
    assert read_run(path).column("epoch") == [1, 2, 3]


@pytest.mark.parametrize("value", [None, "0.5", True, [0.5]])
def test_what_is_no_number_is_nan(value: object, tmp_path: Path) -> None:
    path = write_run(tmp_path / "run")
    lines = [json.loads(line) for line in (path / METRICS).read_text().splitlines()]
    lines[1]["val_accuracy"] = value
    (path / METRICS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = read_run(path)
    assert math.isnan(run.column("val_accuracy")[1])
    assert run.best == 2


def test_settings_of_an_older_run_may_lack_anything(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run")
    (path / SETTINGS).write_text('{"recipe": {"minutes": 3}, "data": "digits"}')
    run = read_run(path)
    assert (run.network, run.data, run.parameters, run.planned) == ("?", "?", None, None)
    assert run.part("data") == {}


def test_what_is_no_run_is_refused_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=f"^{tmp_path}: .*{SETTINGS} is missing"):
        read_run(tmp_path)
    for text in ("[1]", "{", "\xff"):
        (tmp_path / SETTINGS).write_text(text, encoding="latin-1")
        with pytest.raises(RunError, match=f"^{tmp_path}: .*{SETTINGS}.*cannot be read"):
            read_run(tmp_path)
