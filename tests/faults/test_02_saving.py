"""Killed by SIGKILL while a checkpoint is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import inside, making
from tests.faults.conftest import Figure, Whole
from tests.faults.zygote import Zygote

SAVE = 15  # the step whose checkpoint is being written
POINTS = (
    *(f"written {tenth}" for tenth in range(inside.TENTHS)),
    # The file is flushed, renamed; then its folder is flushed. The first fsync is of the metrics.
    "before fsync 1", "after fsync 1", "before replace 1", "after replace 1",
    "before fsync 2", "after fsync 2",
)  # fmt: skip
QUICK = ("written 5", "before replace 1", "after replace 1")


@pytest.mark.parametrize(
    "point",
    [pytest.param(p, id=p, marks=[] if p in QUICK else [pytest.mark.slow]) for p in POINTS],
)
def test_a_kill_costs_the_file_that_is_written_and_no_other(
    point: str, tmp_path: Path, place: Path, zygote: Zygote, whole: Whole, figure: Figure
) -> None:
    out, line = tmp_path / "run", f"{point} of save {SAVE}"
    child = zygote.start(
        *making.train(place, out),
        folder=tmp_path / "said",
        faults={"slow_writer": {}, "at": {line: "stand"}},
    )
    child.until_traced(line)
    renamed = "after replace 1" in child.trace() or point in POINTS[-3:]
    child.kill()
    saved = [making.step_of(path) for path in making.checkpoints(out)]
    assert saved[0] == (SAVE if renamed else SAVE - making.EVERY)
    assert len(saved) >= 2
    partial = [name for name in making.leftovers(out) if name != ".lock"]
    assert bool(partial) == (not renamed)
    lost = whole.lost_bytes(out)
    figure.total("bytes of saved checkpoints lost", lost)
    assert lost == 0
    again = zygote.start(
        *making.resume(out), folder=tmp_path / "again", faults={"at": {"step 18": "pause"}}
    )
    again.until_traced("step 18")
    assert making.leftovers(out) == [".lock"]
    (tmp_path / "again" / "go").touch()
    again.wait().succeeded()
    same = making.marks(out) == whole.marks
    figure.count("bitwise identical", same)
    assert same


@pytest.mark.slow
@pytest.mark.parametrize("where", [".", "checkpoints"])
def test_a_temporary_file_of_safetensors_is_cleared(
    where: str, tmp_path: Path, place: Path, zygote: Zygote
) -> None:
    """Its save_file writes to a file of such a name first, and a kill then leaves it."""
    out = tmp_path / "run"
    faults = {"at": {"step 13": "die"}}
    zygote.start(*making.train(place, out), folder=tmp_path / "said", faults=faults).wait()
    (out / where / ".tmpuS2W5m").write_bytes(b"half")
    faults = {"at": {"step 13": "stand"}}
    again = zygote.start(*making.resume(out), folder=tmp_path / "again", faults=faults)
    again.until_traced("step 13")
    left = making.leftovers(out)
    again.kill()
    assert left == [".lock"]
