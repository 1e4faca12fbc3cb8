"""The record of a checkpoint is refused if it cannot be that of a run."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from forebear.tasks.train.state import TrainState

GOOD = TrainState(step=9, epoch=2, place=3, losses=[0.5], hits=[1.0], counts=[4], lrs=[0.1])


def test_a_good_record_comes_back() -> None:
    assert TrainState.read(asdict(GOOD)) == GOOD


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"step": -5}, "step=-5 is no count"),
        ({"step": 1e300}, "step=1e\\+300 is no count"),
        ({"place": 10**10}, "place=10000000000 is no count"),
        ({"epoch": 0}, "epoch=0 is no count"),
        ({"step": True}, "step=True is no count"),
        ({"waited": -1}, "waited=-1 is no count"),
        ({"seconds": float("nan")}, "seconds=nan is no time"),
        ({"seconds": "9"}, "seconds='9' is no time"),
        ({"progress": 1.5}, "progress=1.5 is no fraction"),
        ({"progress": "x"}, "progress='x' is no fraction"),
        ({"losses": [0.5, 0.5]}, "not consistent"),
        ({"losses": "x", "hits": "x"}, "not consistent"),
        ({"step": 0}, "not consistent"),
    ],
)
def test_values_out_of_range_are_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TrainState.read(asdict(GOOD) | changed)


def test_the_checkpoint_of_an_older_version_has_not_waited() -> None:
    data = asdict(GOOD)
    del data["waited"]
    assert TrainState.read(data) == GOOD


def test_the_checkpoint_of_an_older_version_does_not_know_the_fraction_of_the_run() -> None:
    data = asdict(GOOD)
    del data["progress"]
    assert TrainState.read(data).progress is None


def test_a_missing_field_is_named() -> None:
    data = asdict(GOOD)
    del data["lrs"]
    with pytest.raises(KeyError, match="lrs"):
        TrainState.read(data)
