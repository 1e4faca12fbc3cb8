"""The winner of a search, and the tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from forebear.tasks.runs.choosing import MEASURES
from forebear.tasks.tune.results import choose_winner, table
from tests.tasks.tune.making import TRIALS, result, trial


def test_the_best_completed_trial_wins() -> None:
    assert choose_winner(TRIALS, MEASURES["top1"]).number == 2


def test_a_smaller_loss_is_better() -> None:
    assert choose_winner(TRIALS, MEASURES["loss"]).number == 0


def test_the_unchanged_recipe_wins_if_nothing_is_better() -> None:
    equal = trial(4, "complete", 0.5, lr=0.1)
    assert choose_winner((TRIALS[0], equal), MEASURES["top1"]).number == 0
    cut = replace(TRIALS[0], state="time")
    assert choose_winner((cut, TRIALS[1]), MEASURES["top1"]).number == 0


def test_the_table_has_a_column_for_each_field(tmp_path: Path) -> None:
    assert table(result(tmp_path)).splitlines() == [
        "trial,folder,state,val_accuracy,epochs,seconds,lr,mirror",
        "0,trial-000,complete,0.5,2,60.0,,",
        "1,trial-001,pruned,0.9,2,60.0,0.1,<none>",
        "2,trial-002,complete,0.75,2,60.0,0.01,random",
        "3,trial-003,failed,,2,60.0,1,random",
    ]


def test_the_number_of_trials_is_said_where_it_makes_the_metric_optimistic(tmp_path: Path) -> None:
    found = result(tmp_path)
    assert "40 validation images chose it among 4 trials" in found.caveat
    assert "optimistic" in found.caveat
    assert "optimistic" not in replace(found, trials=TRIALS[:1], winner=TRIALS[0]).caveat


@pytest.mark.parametrize(
    ("multi_label", "said"), [(False, "top-1 accuracy 62.50%"), (True, "mAP 62.50%")]
)
def test_the_test_set_is_said(multi_label: bool, said: str, tmp_path: Path) -> None:
    found = replace(result(tmp_path), multi_label=multi_label)
    assert f"Test set, which chose nothing: {said} of 80 images." in found.tested
