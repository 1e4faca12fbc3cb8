"""SIGTERM, SIGINT and a second signal; to one process, to one of two, and to torchrun."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.faults import making
from tests.faults.conftest import Figure, Whole
from tests.faults.harness import Child, Outcome, descendants, start
from tests.faults.worlds import Ranks
from tests.faults.zygote import Zygote

CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}
SIGNALS = pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
LONG = ("--epochs", 3000)  # more than anybody waits for
SOONEST = 10.0  # seconds to the exit


def stop(child: Child, number: signal.Signals) -> tuple[Outcome, float]:
    """Sends a signal; what became of the process, and the seconds to its end."""
    child.signal(number)
    sent = time.monotonic()
    return child.wait(), time.monotonic() - sent


def steps_lost(said: str, out: Path) -> int:
    """Steps that were taken and are not in the newest checkpoint."""
    told = re.search(r"stopped by a signal after step ([\d,]+)", said)
    assert told is not None, said
    return int(told[1].replace(",", "")) - making.step_of(making.checkpoints(out)[0])


@SIGNALS
def test_a_run_ends_its_step_and_is_saved(
    number: signal.Signals,
    tmp_path: Path,
    place: Path,
    zygote: Zygote,
    whole: Whole,
    figure: Figure,
) -> None:
    out = tmp_path / "run"
    child = zygote.start(*making.train(place, out), folder=tmp_path / "said")
    child.until_traced("step 31")
    done, seconds = stop(child, number)
    done.failed("To go on: forebear train --resume", code=CODES[number])
    figure.most("s to the exit", seconds)
    assert seconds < SOONEST
    lost = steps_lost(done.stderr, out)
    figure.total("steps lost", lost)
    assert lost == 0
    zygote.start(*making.resume(out), folder=tmp_path / "again").wait().succeeded()
    assert making.marks(out) == whole.marks


@pytest.mark.slow
@SIGNALS
def test_the_real_command_does_too(
    number: signal.Signals, tmp_path: Path, place: Path, figure: Figure
) -> None:
    out = tmp_path / "run"
    child = start(*making.train(place, out, *LONG), folder=tmp_path / "said")
    child.until(lambda: " 2/3000" in child.said())
    done, seconds = stop(child, number)
    done.failed("To go on: forebear train --resume", code=CODES[number])
    figure.most("s to the exit", seconds)
    assert seconds < SOONEST
    assert steps_lost(done.stderr, out) == 0


@SIGNALS
@pytest.mark.long
def test_a_second_signal_ends_a_step_that_hangs(
    number: signal.Signals,
    tmp_path: Path,
    place: Path,
    zygote: Zygote,
    whole: Whole,
    figure: Figure,
) -> None:
    out = tmp_path / "run"
    child = zygote.start(
        *making.train(place, out),
        folder=tmp_path / "said",
        faults={"at": {"step 33": "stand"}},
    )
    child.until_traced("step 33")
    child.signal(number)
    child.until(lambda: "press Ctrl-C again" in child.said())
    assert child.running()
    done, seconds = stop(child, number)
    assert done.code == CODES[number]
    assert "Traceback" not in done.stderr
    figure.most("s to the exit after the second", seconds)
    assert seconds < 1
    assert whole.lost_bytes(out) == 0
    assert making.step_of(making.checkpoints(out)[0]) == 30
    zygote.start(*making.resume(out), folder=tmp_path / "again").wait().succeeded()
    assert making.marks(out) == whole.marks


@pytest.mark.slow
@pytest.mark.parametrize("line", ["written 5 of save 35", "before replace 1 of save 35"])
def test_a_second_signal_in_a_save_costs_no_checkpoint(
    line: str, tmp_path: Path, place: Path, zygote: Zygote, whole: Whole, figure: Figure
) -> None:
    out = tmp_path / "run"
    faults = {"slow_writer": {}, "at": {line: "stand"}}
    child = zygote.start(*making.train(place, out), folder=tmp_path / "said", faults=faults)
    child.until_traced(line)
    child.signal(signal.SIGTERM)
    child.until(lambda: "press Ctrl-C again" in child.said())
    done, seconds = stop(child, signal.SIGTERM)
    assert done.code == 143
    figure.most("s to the exit after the second", seconds)
    assert whole.lost_bytes(out) == 0
    zygote.start(*making.resume(out), folder=tmp_path / "again").wait().succeeded()
    assert making.marks(out) == whole.marks


@pytest.mark.slow
@SIGNALS
@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_of_two_processes_ends_both(
    rank: int, number: signal.Signals, tmp_path: Path, place: Path, zygote: Zygote, figure: Figure
) -> None:
    out = tmp_path / "run"
    ranks = Ranks(zygote, tmp_path / "ranks", making.train(place, out, *LONG))
    ranks.all[0].until_traced("step 40")
    ranks.all[rank].signal(number)
    sent = time.monotonic()
    done = [child.wait() for child in ranks.all]
    seconds = time.monotonic() - sent
    assert [one.code for one in done] == [CODES[number]] * 2, done
    figure.most("s to the exit", seconds)
    assert seconds < SOONEST
    assert steps_lost(done[0].stderr, out) == 0
    assert done[1].stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize("to", ["torchrun", "a rank"])
def test_a_signal_under_torchrun_ends_all(
    to: str, tmp_path: Path, place: Path, figure: Figure
) -> None:
    out = tmp_path / "run"
    torchrun = (
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        *("--nproc-per-node", "2", "-m", "forebear"),
    )
    child = start(
        *making.train(place, out, *LONG),
        folder=tmp_path / "said",
        program=torchrun,
        memory_bytes=None,
        env={"CUDA_VISIBLE_DEVICES": ""},
    )
    child.until(lambda: " 2/3000" in child.said())
    number = child.number if to == "torchrun" else descendants(child.number)[-1]
    os.kill(number, signal.SIGTERM)
    sent = time.monotonic()
    done = child.wait()
    seconds = time.monotonic() - sent
    assert done.code == 1  # torchrun's own
    figure.most("s to the exit", seconds)
    assert seconds < SOONEST
    assert steps_lost(done.stderr, out) == 0
    assert len([line for line in done.lines if "forebear: stopped" in line]) == 1
