"""Killed by SIGKILL at random steps, in the middle of epochs and images too."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from tests.faults import making
from tests.faults.conftest import Figure, Whole
from tests.faults.zygote import Zygote

KILLS = int(os.environ.get("FAULTS_KILLS", "20"))
QUICK = 4  # trials without the mark slow


@pytest.mark.parametrize(
    "trial",
    [pytest.param(n, marks=[pytest.mark.slow] if n >= QUICK else []) for n in range(KILLS)],
)
@pytest.mark.long
def test_a_killed_run_goes_on_to_the_same_bits(
    trial: int, tmp_path: Path, place: Path, zygote: Zygote, whole: Whole, figure: Figure
) -> None:
    numbers, out = random.Random(trial), tmp_path / "run"
    workers = (0, 2)[trial % 2]
    words = making.train(place, out, "--workers", workers)
    saved = 0
    for kill in range(1 + (numbers.random() < 1 / 3)):
        child = zygote.start(*words, folder=tmp_path / f"said-{kill}", faults={"undecoded": {}})
        child.until_traced(f"step {numbers.randint(saved + 1, making.LAST)}")
        time.sleep(numbers.uniform(0, 0.03))
        child.kill()
        words = making.resume(out)
        lost = whole.lost_bytes(out)
        figure.total("bytes of saved checkpoints lost", lost)
        assert lost == 0
        if (out / "model.safetensors").exists():
            break
        reached = max(int(line[5:]) for line in child.trace() if line.startswith("step "))
        saved = making.step_of(making.checkpoints(out)[0]) if making.checkpoints(out) else 0
        assert reached - saved <= making.EVERY
        figure.most("steps to be done again", reached - saved)
        if saved == making.LAST:
            break
    finished = (out / "model.safetensors").exists()
    done = zygote.start(*words, folder=tmp_path / "said", faults={"undecoded": {}}).wait()
    if finished:  # killed when its weights were written
        done.failed("the run is finished")
    else:
        done.succeeded()
    same = making.marks(out, clean=False) == whole.marks  # case 2 looks for leftovers
    figure.count("bitwise identical", same)
    assert same
