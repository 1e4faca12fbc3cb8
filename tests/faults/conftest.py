"""What the cases share: the data, the zygote, the run that nothing happens to, and the figures."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.faults import making
from tests.faults.harness import end_all
from tests.faults.zygote import Zygote

RESULTS = "FOREBEAR_FAULTS"  # variable: the file that takes a line of JSON for each variant
CASE = r"tests/faults/test_(\d\d_\w+)\.py::"


@dataclass(frozen=True, slots=True)
class Figure:
    """Records the figures of a variant, for the table."""

    record: Callable[[str, object], None]

    def count(self, name: str, good: int | bool, of: int = 1) -> None:
        """Counts, such as "20 of 20 bitwise identical"."""
        self.record("figure", ["count", name, int(good), of])

    def most(self, name: str, value: float) -> None:
        """Keeps the largest over all variants, such as "at most 1.4 s to the exit"."""
        self.record("figure", ["most", name, value, 0])

    def total(self, name: str, value: float) -> None:
        """Adds up over all variants, such as "0 bytes lost"."""
        self.record("figure", ["total", name, value, 0])


@dataclass(frozen=True, slots=True)
class Whole:
    """A run that nothing happened to."""

    marks: tuple[str, list[dict[str, str]]]
    checkpoints: dict[int, str]  # SHA-256 of the arrays of each one, by its step

    def lost_bytes(self, out: Path) -> int:
        """Returns the bytes of those checkpoints of a run that are not as they were saved."""
        found = 0
        for path in making.checkpoints(out):
            try:
                good = making.arrays_hash(path) == self.checkpoints[making.step_of(path)]
            except Exception:
                good = False
            found += 0 if good else path.stat().st_size
        return found


@pytest.fixture(autouse=True)
def _nothing_runs_on() -> Iterator[None]:
    """Kills the real commands that a failed test leaves."""
    yield
    end_all()


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Figure:
    """Records figures of a test, for the table."""
    return Figure(record_property)


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, data.npz and tiny.toml, which tests leave as they are."""
    return making.make_place(tmp_path_factory.mktemp("place"))


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """Forks children that have imported everything."""
    with Zygote() as found:
        yield found


@pytest.fixture(scope="session")
def whole(zygote: Zygote, place: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """The run that the others are compared with."""
    folder = tmp_path_factory.mktemp("whole")
    kept = folder / "kept"
    kept.mkdir()
    out = folder / "run"
    words = making.train(place, out, "--workers", 2)
    zygote.start(
        *words, folder=folder / "said", faults={"kept": {"folder": str(kept)}, "undecoded": {}}
    ).wait().succeeded()
    saved = {making.step_of(path): making.arrays_hash(path) for path in kept.iterdir()}
    ends = {making.STEPS, making.LAST}
    assert set(saved) == {*range(0, making.LAST, making.EVERY), *ends}
    return Whole(making.marks(out), saved)


@pytest.fixture(scope="session")
def trained(zygote: Zygote, place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("trained")
    words = making.train(place, folder / "run", "--epochs", 1)
    zygote.start(*words, folder=folder / "said").wait().succeeded()
    return folder / "run"


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Writes a line for each variant, where the table is asked for."""
    path = os.environ.get(RESULTS)
    if path is None or "PYTEST_XDIST_WORKER" in os.environ:
        return
    if re.match(CASE, report.nodeid) is None or (report.when != "call" and report.passed):
        return
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(f"{json.dumps(_result(report))}\n")


def _result(report: pytest.TestReport) -> dict[str, Any]:
    case = re.match(CASE, report.nodeid)
    assert case is not None
    xfailed = hasattr(report, "wasxfail") and report.outcome == "skipped"
    return {
        "case": case[1],
        "variant": report.nodeid[case.end() :],
        "outcome": "expected failure" if xfailed else report.outcome,
        "reason": getattr(report, "wasxfail", ""),
        "seconds": report.duration,
        "figures": [value for name, value in report.user_properties if name == "figure"],
    }
