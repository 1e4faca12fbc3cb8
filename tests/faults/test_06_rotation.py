"""Killed by SIGKILL at each call that flushes, renames or deletes a file, and in the rotation."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import making
from tests.faults.conftest import Figure, Whole
from tests.faults.harness import Child
from tests.faults.zygote import Zygote

SAVE = 2 * making.STEPS  # with it, all is written that a run has, the final weights last
KEPT = 2  # checkpoints of a run
CALLS = 39  # of these two saves, and of what follows the second


def calls(child: Child) -> list[str]:
    """The calls of the saves after the first and the second epoch, in order."""
    saves = (f" of save {making.STEPS}", f" of save {SAVE}")
    return [line for line in child.trace() if line.startswith("before ") and line.endswith(saves)]


@pytest.fixture(scope="module")
def traced(zygote: Zygote, place: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """All calls of these saves in a run that nothing happens to."""
    folder = tmp_path_factory.mktemp("traced")
    child = zygote.start(*making.train(place, folder / "run"), folder=folder / "said")
    child.wait().succeeded()
    return calls(child)


def test_no_call_is_left_out(traced: list[str]) -> None:
    assert len(traced) == CALLS, "CALLS must be set anew"


@pytest.mark.slow
@pytest.mark.parametrize("number", range(CALLS))
def test_a_kill_leaves_two_checkpoints_and_the_best_weights(
    number: int, tmp_path: Path, place: Path, zygote: Zygote, whole: Whole, figure: Figure,
    traced: list[str],
) -> None:  # fmt: skip
    out, line = tmp_path / "run", traced[number]
    child = zygote.start(
        *making.train(place, out),
        folder=tmp_path / "said",
        faults={"at": {line: "die"}},
    )
    assert child.wait().code == -9
    finished = (out / "model.safetensors").exists()
    lost = whole.lost_bytes(out)
    figure.total("bytes of saved checkpoints lost", lost)
    assert lost == 0
    valid = len(making.checkpoints(out))
    if not finished:
        figure.count("with two whole checkpoints or more", valid >= KEPT)
        assert valid >= KEPT
    if calls(child).index(line) > 3:  # the best weights were renamed into place by then
        assert making.arrays(out / "best.safetensors")
    again = zygote.start(*making.resume(out), folder=tmp_path / "again").wait()
    if not finished:
        again.succeeded()
    assert not (out / "checkpoints").exists()
    page = (out / "index.html").read_text()
    assert "unfinished" not in page
    assert making.marks(out) == whole.marks
