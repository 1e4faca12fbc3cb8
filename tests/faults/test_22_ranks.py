"""One of two processes killed, raising or stalled; and started again by torchrun."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.faults import making
from tests.faults.conftest import Figure
from tests.faults.harness import descendants, start
from tests.faults.worlds import Ranks
from tests.faults.zygote import Zygote

TIMEOUT = 6.0  # seconds after which a silent process counts as lost
SOONEST = TIMEOUT + 10  # seconds until all are out
LONG = ("--epochs", 3000)
TOLD = {
    "die": ("gone without a word",),
    "raise": ("forebear: the moon is full. Expected a half. Wait.",),
    "stop": ("has not answered for 6 s", "gone without a word"),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "who"),
    [(fault, who) for fault in TOLD for who in (0, 1)],
)
def test_one_process_that_fails_ends_all_in_time_and_is_said_once(
    fault: str, who: int, tmp_path: Path, place: Path, zygote: Zygote, figure: Figure
) -> None:
    out = tmp_path / "run"
    words = making.train(place, out, *LONG)
    faults = {who: {"at": {"step 40": fault}}}
    ranks = Ranks(zygote, tmp_path / "p", words, timeout=TIMEOUT, faults=faults)
    stricken, other = ranks.all[who], ranks.all[1 - who]
    stricken.until_traced("step 40")
    since = time.monotonic()
    others = other.wait(SOONEST)
    seconds = time.monotonic() - since
    if fault == "stop":  # it cannot end itself before it goes on, which takes no time of its own
        stricken.signal(signal.SIGCONT)
        since = time.monotonic()
    its = stricken.wait(SOONEST)
    done = (others, its)
    seconds = max(seconds, time.monotonic() - since)
    figure.most("s until all are out", seconds)
    figure.count("out in time", seconds < SOONEST and None not in [one.code for one in done])
    assert others.code == 2, done
    assert its.code == {"die": -9, "raise": 2, "stop": 2}[fault], done
    said = [line for one in done for line in one.lines if line.startswith("forebear: ")]
    assert any(words in said[0] for words in TOLD[fault]), said
    assert len(said) == 1 or fault == "stop", said
    assert all("Traceback" not in one.stderr for one in done)
    assert not (out / "model.safetensors").exists()
    assert making.checkpoints(out)


@pytest.mark.slow
def test_torchrun_starts_a_killed_run_again_to_the_same_bits(
    tmp_path: Path, place: Path, zygote: Zygote, figure: Figure
) -> None:
    more = ("--epochs", 30, "--set", "warmup=0")
    whole = Ranks(zygote, tmp_path / "p", making.train(place, tmp_path / "whole", *more))
    assert [child.wait().code for child in whole.all] == [0, 0]
    torchrun = (
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--max-restarts", "1"),
        *("--nproc-per-node", "2", "-m", "forebear"),
    )
    child = start(
        *making.train(place, tmp_path / "run", *more),
        folder=tmp_path / "said",
        program=torchrun,
        memory_bytes=None,
        env={"CUDA_VISIBLE_DEVICES": ""},
    )
    child.until(lambda: " 2/30" in child.said())
    os.kill(descendants(child.number)[-1], signal.SIGKILL)
    done = child.wait(120)
    assert done.code == 0, done
    assert "resuming after step" in done.stderr
    same = making.marks(tmp_path / "run")[0] == making.marks(tmp_path / "whole")[0]
    figure.count("bitwise identical after a restart", same)
    assert same
