"""A full disk, a limit on the size of files, a write that fails; in saves and in the metrics."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults import making
from tests.faults.conftest import Figure, Whole
from tests.faults.harness import Outcome
from tests.faults.zygote import Zygote

IO = 74  # EX_IOERR of sysexits.h
DISK = 8 * 2**20  # bytes of the disk
AT = 33  # the step after which there is no room; a checkpoint of step 30 was saved before


@contextmanager
def disk(folder: Path) -> Iterator[Path | None]:
    """A disk of 8 MB; None where this process may mount none."""
    folder.mkdir()
    options = f"size={DISK}"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "none", folder], capture_output=True, check=False
    )
    try:
        yield folder if mounted.returncode == 0 else None
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path, leave: int = 0) -> Path:
    """Takes all room of a disk, but for some bytes."""
    path, block = folder / "ballast", b"\0" * 4096
    free = os.statvfs(folder)
    with path.open("wb", buffering=0) as file:
        for _ in range(free.f_bavail * free.f_frsize // 4096 - leave // 4096):
            file.write(block)
    return path


def checked(out: Path, whole: Whole, figure: Figure, done: Outcome) -> None:
    """Asserts that a run that has no room leaves what it had saved, and nothing half-written."""
    lost = whole.lost_bytes(out)
    figure.total("bytes of saved checkpoints lost", lost)
    assert lost == 0
    assert "Traceback" not in done.stderr
    assert making.leftovers(out) == []
    assert not (out / "model.safetensors").exists()
    for line in making.metrics(out):  # each is whole
        assert line["step"] in (making.STEPS, making.LAST)


def went_on(out: Path, zygote: Zygote, whole: Whole, folder: Path) -> None:
    zygote.start(*making.resume(out), folder=folder).wait().succeeded()
    assert making.marks(out) == whole.marks


def ends(done: Outcome, *words: str) -> None:
    """Asserts that the last line is the error; its code has a test of its own."""
    assert done.code in (2, IO)
    done.failed(*words, code=done.code)


@pytest.mark.parametrize("room", [0, pytest.param(40_000, marks=pytest.mark.slow)])
@pytest.mark.long
def test_a_disk_that_fills_up_costs_checkpoints_but_not_those_before(
    room: int, tmp_path: Path, place: Path, zygote: Zygote, whole: Whole, figure: Figure
) -> None:
    with disk(tmp_path / "disk") as folder:
        if folder is None:
            return limited(room, tmp_path, place, zygote, whole, figure)
        out = folder / "run"
        faults = {"at": {f"step {AT}": "pause"}}
        child = zygote.start(*making.train(place, out), folder=tmp_path / "said", faults=faults)
        child.until_traced(f"step {AT}")
        ballast = fill(folder, leave=room)
        (tmp_path / "said" / "go").touch()
        done = child.wait()
        told = [line for line in done.lines if "no checkpoint after step 35" in line]
        assert len(told) == 1
        assert "No space left on device" in told[0]
        assert re.search(r"[\d.]+ MiB needed, [\d.]+ free", told[0])
        checked(out, whole, figure, done)
        ballast.unlink()
        went_on(out, zygote, whole, tmp_path / "again")
        ends(done, "the trained weights cannot be written (No space left on device")


@pytest.mark.slow
def test_a_disk_with_room_for_the_weights_alone_costs_checkpoints_alone(
    tmp_path: Path, place: Path, zygote: Zygote, whole: Whole
) -> None:
    out = tmp_path / "run"
    faults = {"at": {f"step {AT}": "limit 150000"}}  # a checkpoint has 217 kB, the weights 73
    done = zygote.start(*making.train(place, out), folder=tmp_path / "said", faults=faults).wait()
    done.succeeded()
    assert "no checkpoint after step 35 (File too large" in done.stderr
    assert making.marks(out) == whole.marks


def limited(
    room: int, tmp_path: Path, place: Path, zygote: Zygote, whole: Whole, figure: Figure
) -> None:
    """Files that may grow to some bytes only, from step AT on."""
    out = tmp_path / "run"
    faults = {"at": {f"step {AT}": f"limit {room}"}}
    done = zygote.start(*making.train(place, out), folder=tmp_path / "said", faults=faults).wait()
    assert "no checkpoint after step 35 (File too large" in done.stderr
    checked(out, whole, figure, done)
    went_on(out, zygote, whole, tmp_path / "again")
    ends(done, "the trained weights cannot be written (File too large")


@pytest.mark.slow
@pytest.mark.parametrize("room", [0, 100, 40_000])
def test_a_limit_on_the_size_of_files_does_too(
    room: int, tmp_path: Path, place: Path, zygote: Zygote, whole: Whole, figure: Figure
) -> None:
    limited(room, tmp_path, place, zygote, whole, figure)


@pytest.mark.slow
@pytest.mark.parametrize("error", ["ENOSPC", "EFBIG", "EDQUOT", "EIO"])
@pytest.mark.parametrize("tenth", [0, 5, 9])
def test_a_write_that_fails_once_costs_that_checkpoint(
    tenth: int, error: str, tmp_path: Path, place: Path, zygote: Zygote, whole: Whole,
    figure: Figure,
) -> None:  # fmt: skip
    out = tmp_path / "run"
    faults = {
        "slow_writer": {},
        "at": {f"written {tenth} of save 35": f"fail {error}", "step 39": "stand"},
    }
    child = zygote.start(*making.train(place, out), folder=tmp_path / "said", faults=faults)
    child.until_traced("step 39")
    assert [making.step_of(path) for path in making.checkpoints(out)] == [30, 28]
    assert making.leftovers(out) == [".lock"]
    child.kill()
    assert "no checkpoint after step 35 (" in child.said()
    lost = whole.lost_bytes(out)
    figure.total("bytes of saved checkpoints lost", lost)
    assert lost == 0
    went_on(out, zygote, whole, tmp_path / "again")


@pytest.mark.slow
def test_a_first_checkpoint_without_room_ends_the_run_before_its_first_step(
    tmp_path: Path, place: Path, zygote: Zygote, whole: Whole, figure: Figure
) -> None:
    out = tmp_path / "run"
    faults = {"at": {"save 0": "limit 10000"}}
    child = zygote.start(*making.train(place, out), folder=tmp_path / "said", faults=faults)
    done = child.wait()
    assert "step 1" not in child.trace()
    checked(out, whole, figure, done)
    went_on(out, zygote, whole, tmp_path / "again")
    ends(done, "the first checkpoint cannot be written")


@pytest.mark.slow
def test_a_line_of_metrics_without_room_is_written_later(
    tmp_path: Path, place: Path, zygote: Zygote, whole: Whole, figure: Figure
) -> None:
    out = tmp_path / "run"
    faults = {
        "at": {"epoch 1": "limit 100", "step 31": "limit -1"},
    }
    done = zygote.start(*making.train(place, out), folder=tmp_path / "said", faults=faults).wait()
    done.succeeded()
    assert "no checkpoint after step 28 (File too large" in done.stderr
    assert making.marks(out) == whole.marks
    figure.total("bytes of saved checkpoints lost", 0)


@pytest.mark.slow
@pytest.mark.parametrize("when", ["save 0", f"step {AT}"])
def test_the_exit_code_is_that_of_a_disk_that_fails(
    when: str, tmp_path: Path, place: Path, zygote: Zygote
) -> None:
    faults = {"at": {when: "limit 10000"}}
    words = making.train(place, tmp_path / "run")
    assert zygote.start(*words, folder=tmp_path / "said", faults=faults).wait().code == IO
