"""The deadlines of a budget count from the start of the command, or from the end of its trials."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from forebear.tasks.train.budget.deadlines import Deadlines


@pytest.mark.parametrize(("recipe", "left"), [(None, 100.0), ("finetune", 100.0), ("auto", 40.0)])
def test_the_time_of_trials_is_not_there_any_more(recipe: str | None, left: float) -> None:
    started = time.perf_counter() - 60
    setup: Any = SimpleNamespace(
        config=SimpleNamespace(budget=100.0, started=started, recipe=recipe),
        folder=SimpleNamespace(checkpoints=None),
        world=None,
        resumes=False,
    )
    found = Deadlines.of(setup)
    assert found.started == started
    assert found.left == pytest.approx(left, abs=1)
    assert found.ready == pytest.approx(found.now + 0.15 * left, abs=1)
