"""The limits, the table and the zygote themselves: what they say is what happened."""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.faults import making, table
from tests.faults.harness import Outcome, descendants, start
from tests.faults.zygote import Zygote


def outcome(code: int, stderr: str) -> Outcome:
    return Outcome(code, "", stderr, 0.1, 1.0)


@pytest.mark.parametrize(
    ("code", "stderr"),
    [
        (0, "forebear: no such file\n"),
        (2, "training\nforebear: no such file\n"),
        (2, "Traceback (most recent call last):\nforebear: no such file\n"),
        (2, "forebear: no such folder\n"),
        (2, "no such file\n"),
    ],
)
def test_a_refusal_is_one_line_of_these_words_with_this_code(code: int, stderr: str) -> None:
    outcome(2, "forebear: no such file\n").refused("no such file")
    with pytest.raises(AssertionError):
        outcome(code, stderr).refused("no such file")


@pytest.mark.long
def test_a_child_that_is_out_of_time_is_killed_with_what_it_started(tmp_path: Path) -> None:
    child = start(
        "import subprocess; subprocess.run(['sleep', '100'], start_new_session=True)",
        folder=tmp_path / "said",
        program=(sys.executable, "-c"),
    )
    child.until(lambda: len(descendants(child.number)) == 1)
    grandchild = descendants(child.number)[0]
    done = child.wait(0.1)
    assert done.code is None
    until = time.monotonic() + 10
    while is_running(grandchild):
        assert time.monotonic() < until


def is_running(number: int) -> bool:
    """Whether there is such a process, and it is no zombie."""
    try:
        return Path(f"/proc/{number}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def test_a_child_has_no_more_memory_than_it_may_take(tmp_path: Path) -> None:
    text = "import time; time.sleep(0.2); print(len(bytearray(8 * 2**30)))"
    done = start(text, folder=tmp_path / "said", program=(sys.executable, "-c")).wait()
    assert done.code == 1
    assert "MemoryError" in done.stderr
    assert 1 < done.peak_mb < 2048


def test_a_child_of_the_zygote_runs_the_command_line(tmp_path: Path, zygote: Zygote) -> None:
    children = [zygote.start(*words, folder=tmp_path / words[0]) for words in (["list"], ["lst"])]
    listed, unknown = (child.wait() for child in children)
    listed.succeeded()
    assert "resnet50" in listed.stdout
    unknown.refused("verb 'lst' is unknown")
    assert unknown.peak_mb > 10


def test_the_trace_says_where_a_fault_happened(tmp_path: Path, place: Path, zygote: Zygote) -> None:
    faults = {"slow_writer": {}, "at": {"written 3 of save 0": "die"}}
    words = making.train(place, tmp_path / "run")
    child = zygote.start(*words, folder=tmp_path / "said", faults=faults)
    assert child.wait().code == -signal.SIGKILL
    assert child.trace()[-1] == "written 3 of save 0"


def test_the_table_counts_variants_and_gathers_figures() -> None:
    results = [
        ("passed", "", [["count", "equal", 1, 1], ["most", "s", 0.5, 0], ["total", "lost", 0, 0]]),
        ("passed", "", [["count", "equal", 1, 1], ["most", "s", 12.6, 0], ["total", "lost", 2, 0]]),
        ("expected failure", "too slow", [["count", "equal", 0, 1]]),
    ]
    lines = [
        json.dumps(
            {"case": "03_x", "variant": f"v{n}", "outcome": outcome, "reason": reason,
             "seconds": 2, "figures": figures}
        )
        for n, (outcome, reason, figures) in enumerate(results)
    ]  # fmt: skip
    told = table.table(table.collected(lines, {"03_x": "Signals"}), 7.4).splitlines()
    assert told[2] == "| 3 | Signals | 3 | 2 | 2 of 3 equal; at most 13 s; 2 lost | 6 |"
    assert told[4] == "0 of 1 cases, 2 of 3 variants as specified; 7 s."
    assert told[-1] == "- 03_x, v2: too slow"


def test_every_case_has_a_title() -> None:
    found = table.titles()
    assert "01_kill" in found
    assert all(found.values()), found
    assert all(len(title) <= 100 for title in found.values()), found
