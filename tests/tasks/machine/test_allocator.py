from __future__ import annotations

import subprocess
import sys

import pytest

from forebear.tasks.machine import allocator

PROGRAM = """
import resource, torch
from forebear.tasks.machine.allocator import keep_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(16 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
given_back = faults()
kept = keep_memory()
faults()
print(kept, given_back, faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc has the switch")
@pytest.mark.long
def test_freed_memory_is_taken_again() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    kept, given_back, again = done.stdout.split()
    if kept == "True":  # musl has no such switch
        assert int(again) * 20 < int(given_back)


def test_elsewhere_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not allocator.keep_memory()
