"""NaN, inf and -inf in the loss, the gradient or an image.

Overflow under AMP is left out: forebear trains in fp32 and bfloat16, which need no loss scaling.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.faults import making
from tests.faults.conftest import Figure
from tests.faults.zygote import Zygote

BAD = (1, 7, 8, 9, 10)  # steps; four in a row are one too many
QUICK = (("loss", "nan"), ("gradient", "inf"), ("image", "-inf"))
VARIANTS = [
    pytest.param(where, value, marks=[] if (where, value) in QUICK else [pytest.mark.slow])
    for where in ("loss", "gradient", "image")
    for value in ("nan", "inf", "-inf")
]


def spoiled(
    zygote: Zygote, place: Path, tmp_path: Path, where: str, value: str, steps: tuple[int, ...]
) -> tuple[Any, dict[int, str]]:
    """What becomes of a run with such steps, and the SHA-256 of its state after each step."""
    kept = tmp_path / "kept"
    kept.mkdir()
    faults: dict[str, dict[str, Any]] = {
        "kept": {"folder": str(kept)},
        "spoiled": {"where": where, "value": value, "steps": list(steps)},
    }
    words = making.train(place, tmp_path / "run", "--save-every", 1)
    done = zygote.start(*words, folder=tmp_path / "said", faults=faults).wait()
    return done, {making.step_of(path): making.arrays_hash(path) for path in kept.iterdir()}


def reached(states: dict[int, str], steps: tuple[int, ...]) -> list[int]:
    """The steps of these that changed weights, momenta, running values or the average."""
    return [step for step in steps if states[step] != states[step - 1]]


@pytest.mark.parametrize(("where", "value"), VARIANTS)
@pytest.mark.long
def test_bad_steps_change_nothing_and_four_in_a_row_end_the_run(
    where: str, value: str, tmp_path: Path, place: Path, zygote: Zygote, figure: Figure
) -> None:
    out = tmp_path / "run"
    done, states = spoiled(zygote, place, tmp_path, where, value, BAD)
    done.failed("not finite at 4 steps in a row, up to step 10", "--lr")
    bad = reached(states, BAD)
    figure.total("bad steps that reached the weights", len(bad))
    assert bad == []
    good = tuple(range(2, 7))
    assert reached(states, good) == list(good)
    assert max(states) == BAD[-1]
    zygote.start(*making.resume(out), folder=tmp_path / "again").wait().succeeded()
    assert making.metrics(out)[0]["skipped"] == len(BAD)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["loss", "gradient", "image"])
def test_three_bad_steps_in_a_row_are_counted_and_the_run_goes_on(
    where: str, tmp_path: Path, place: Path, zygote: Zygote, figure: Figure
) -> None:
    steps = (1, 8, 9, 10)
    done, states = spoiled(zygote, place, tmp_path, where, "nan", steps)
    done.succeeded()
    assert "4 steps skipped" in done.stderr
    bad = reached(states, steps)
    figure.total("bad steps that reached the weights", len(bad))
    assert bad == []
    assert [line["skipped"] for line in making.metrics(tmp_path / "run")] == [4, 4]  # up to then
