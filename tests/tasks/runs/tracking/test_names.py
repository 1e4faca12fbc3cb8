from __future__ import annotations

from dataclasses import asdict, fields

import pytest

from forebear.tasks.runs.metrics import Epoch
from forebear.tasks.runs.tracking.names import EPOCH, FINAL, flat, parse_trackers, points
from tests.tasks.runs.tracking.making import FLAT, SETTINGS, epoch


def test_trackers_are_named_with_commas_and_each_counts_once() -> None:
    assert parse_trackers("wandb, mlflow,wandb") == ("wandb", "mlflow")
    assert parse_trackers(None) == ()


@pytest.mark.parametrize("text", ["", "mlflow,", ","])
def test_an_empty_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="'' is no tracker. Expected one or more of tensorboard"):
        parse_trackers(text)


def test_an_unknown_name_is_refused_with_near_misses() -> None:
    with pytest.raises(ValueError, match="no tracker") as found:
        parse_trackers("mlflow,wndb")
    assert str(found.value) == (
        "track='mlflow,wndb': 'wndb' is no tracker. Did you mean wandb? Expected one or more of "
        "tensorboard, mlflow, wandb, trackio. Separate several by commas, or leave it out."
    )


def test_numbers_get_their_names_and_those_that_are_not_finite_are_left_out() -> None:
    line = asdict(epoch(10, val_loss=float("nan"), skipped=3))
    found = points(line, EPOCH)
    assert found["run/steps skipped"] == 3
    several = {"mAP/validation", "F1/validation all labels"}  # of multi-label runs
    assert found.keys() == set(EPOCH.values()) - {"loss/validation"} - several
    assert points({"held_out_accuracy": 0.5, "data": "digits"}, FINAL) == {
        "final/validation accuracy": 0.5
    }


def test_every_name_stands_for_a_metric_and_for_one_only() -> None:
    assert EPOCH.keys() <= {one.name for one in fields(Epoch)}
    names = [*EPOCH.values(), *FINAL.values()]
    assert len(set(names)) == len(names)


def test_settings_are_flat_and_without_lists() -> None:
    assert flat(SETTINGS) == FLAT
    assert flat({"data": {"spec": "a\nb" + "c" * 1000}}) == {"data.spec": "a\\nb" + "c" * 496}
