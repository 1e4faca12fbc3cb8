"""When trials may end early; the search itself is in test_job.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from forebear.errors import RunError
from forebear.tasks.train.request import TrainConfig
from forebear.tasks.tune.config import TuneConfig
from forebear.tasks.tune.search import FAILURES, first_rung
from tests.cli.making import folder


@pytest.mark.parametrize(
    ("recipe", "epochs"),
    [
        ({"epochs": 90, "warmup": 5}, 10),
        ({"epochs": 9, "warmup": 0.6}, 2),
        ({"epochs": 40, "warmup": 2.0, "head_epochs": 3}, 6),
        ({"epochs": 0, "warmup": 0.0}, 1),
    ],
)
def test_no_trial_ends_before_its_warm_up(recipe: dict[str, Any], epochs: int) -> None:
    assert first_rung(recipe) == epochs


def test_trials_that_all_fail_end_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna")
    from forebear.tasks.train.api import train as real
    from forebear.tasks.tune import job, search

    def train(config: TrainConfig) -> object:
        if any(word.startswith("lr=") for word in config.sets):
            raise RunError("the loss is not finite.")
        return real(config)

    monkeypatch.setattr(search, "train", train)
    for part in ("train", "val"):
        folder(tmp_path / "data" / part, 10)
    said: list[str] = []
    first = TrainConfig(
        data=f"folder:{tmp_path / 'data'}", network="paper/resnet20", epochs=1, device="cpu"
    )
    asked = TuneConfig(train=first, out=tmp_path / "out", time=60, search=("lr=0.1..0.2",))
    with pytest.raises(RunError, match=f"{FAILURES} trials failed one after the other"):
        job.tune(asked, say=said.append)
    assert sum("the loss is not finite" in line for line in said) == FAILURES
