"""What a search refuses before it begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from forebear.tasks.train.request import TrainConfig
from forebear.tasks.tune.config import TuneConfig


def config(*search: str, time: float = 1, **train: Any) -> TuneConfig:
    return TuneConfig(
        train=TrainConfig(data="digits", **train), out=Path("x"), time=time, search=search
    )


def test_a_part_of_the_training_images_is_always_held_out() -> None:
    assert config().first.hold_out == 0.2
    assert config(hold_out=0.4).first.hold_out == 0.4


@pytest.mark.parametrize(
    ("search", "train", "message"),
    [
        ("lr=0.1..0.2", {"lr": 0.1}, "lr: both set and searched"),
        ("ema=0.1..0.2", {"sets": ("ema=0.9",)}, "ema: both set and searched"),
        ("batch=1..8", {}, "--search batch=1..8: batch=1: expected 2 or more"),
        ("lr=0.1..0.2", {"budget": 9.0}, "budget=9.0 with a search"),
        ("lr=0.1..0.2", {"patience": 2}, "patience=2 with a search"),
        ("lr=0.1..0.2", {"fold": "1/3"}, "fold=1/3 with a search"),
    ],
)
def test_what_does_not_fit_is_refused(search: str, train: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="Expected|expected") as caught:
        config(search, **train)
    assert message in str(caught.value)


def test_a_time_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="time=0: expected a number above 0"):
        config(time=0)
