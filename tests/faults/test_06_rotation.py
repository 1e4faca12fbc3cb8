"""Killed by SIGKILL at each call that writes, renames or deletes files of the run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import making
from tests.faults.conftest import Figure, Whole
from tests.faults.zygote import Zygote

SAVE = making.STEPS  # the save after the first epoch: best.safetensors, metrics and a checkpoint
KEPT = 2  # checkpoints


def test_trace(place: Path, tmp_path: Path, zygote: Zygote) -> None:
    child = zygote.start(*making.train(place, tmp_path / "run"), folder=tmp_path / "said")
    child.wait().succeeded()
    print([line for line in child.trace() if line.startswith("before")])
    assert 0
