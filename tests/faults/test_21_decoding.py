"""A decoding thread that fails or hangs, an image that never ends, and a tiny /dev/shm.

forebear decodes in threads, not in processes: no worker can be killed alone (a kill ends the run,
case 1), and nothing is passed through shared memory.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.faults import making
from tests.faults.conftest import Figure, Whole
from tests.faults.harness import PROGRAM, start
from tests.faults.zygote import Zygote

SOONEST = 10.0  # seconds to the end
AFTER = 33  # the step from which on reading has a fault


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("do", "code"),
    [
        ("raise", 2),
        pytest.param("fail EIO", 74, marks=pytest.mark.slow),
        pytest.param("bug", 70, marks=pytest.mark.slow),
        pytest.param("memory", 2, marks=pytest.mark.slow),
    ],
)
def test_a_thread_that_fails_ends_the_run_at_once(
    do: str, code: int, workers: int, tmp_path: Path, place: Path, zygote: Zygote, whole: Whole,
    figure: Figure,
) -> None:  # fmt: skip
    out = tmp_path / "run"
    faults = {"undecoded": {}, "reading": {"do": do, "after": AFTER}}
    words = making.train(place, out, "--workers", workers)
    child = zygote.start(*words, folder=tmp_path / "said", faults=faults)
    child.until_traced("reading")
    read = time.monotonic()
    done = child.wait()
    seconds = time.monotonic() - read
    figure.most("s to the end", seconds)
    figure.total("hangs", done.code is None)
    done.failed(code=code)
    assert seconds < SOONEST
    assert whole.lost_bytes(out) == 0
    zygote.start(*making.resume(out), folder=tmp_path / "again").wait().succeeded()
    assert making.marks(out) == whole.marks


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.long
def test_a_read_that_hangs_ends_at_the_second_signal(
    workers: int, tmp_path: Path, place: Path, zygote: Zygote, whole: Whole, figure: Figure
) -> None:
    out = tmp_path / "run"
    faults = {"undecoded": {}, "reading": {"do": "stand", "after": AFTER}}
    words = making.train(place, out, "--workers", workers)
    child = zygote.start(*words, folder=tmp_path / "said", faults=faults)
    child.until_traced("reading")
    child.signal(signal.SIGTERM)
    child.until(lambda: "press Ctrl-C again" in child.said())
    child.signal(signal.SIGTERM)
    sent = time.monotonic()
    done = child.wait(SOONEST)
    figure.most("s to the end", time.monotonic() - sent)
    figure.total("hangs", done.code is None)
    assert done.code == 143
    zygote.start(*making.resume(out), folder=tmp_path / "again").wait().succeeded()
    assert making.marks(out) == whole.marks


@pytest.mark.parametrize("verb", ["check", "train"])
def test_a_pipe_among_the_images_does_not_hang(
    verb: str, tmp_path: Path, place: Path, zygote: Zygote, figure: Figure
) -> None:
    data = making.copied(place / "data", tmp_path / "data")
    os.mkfifo(data / "down" / "never.png")
    words = making.train(place, tmp_path / "run", data=f"folder:{data}")
    if verb == "check":
        words = ("check", f"folder:{data}")
    done = zygote.start(*words, folder=tmp_path / "said").wait(SOONEST)
    figure.total("hangs", done.code is None)
    figure.most("s to the end", done.seconds)
    assert done.code in (0, 2)  # None: it hung
    assert "never.png" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_tiny_shared_memory_is_not_needed(
    tmp_path: Path, place: Path, whole: Whole, figure: Figure
) -> None:
    mount = "mount -t tmpfs -o size=64k none /dev/shm"
    alone = ("unshare", "--mount", "sh", "-c")
    may = subprocess.run([*alone, mount], capture_output=True, check=False).returncode == 0
    program = (*alone, f'{mount} && exec "$@"', "sh") if may else ()
    out = tmp_path / "run"
    words = making.train(place, out, "--workers", 2)
    done = start(*words, folder=tmp_path / "said", program=(*program, *PROGRAM)).wait()
    done.succeeded()
    figure.total("hangs", done.code is None)
    assert not list(Path("/dev/shm").glob("*forebear*"))
    assert making.marks(out) == whole.marks
