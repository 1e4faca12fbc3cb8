"""Runs the cases and prints a table of them: python -m tests.faults.table [--out FILE] [--kills N].

All further arguments go to pytest, such as --numprocesses 2.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from forebear.hardware import processor

CASES = Path(__file__).parent
HEADER = (
    "| case | | variants | as specified | figures | s |",
    "|---:|---|---:|---:|---|---:|",
)


@dataclass(slots=True)
class Case:
    """A row of the table."""

    name: str  # 01_kill
    title: str = ""
    variants: int = 0
    good: int = 0
    seconds: float = 0.0
    figures: dict[tuple[str, str], list[float]] = field(default_factory=dict)  # by kind and name
    faults: list[str] = field(default_factory=list)  # variants that are not as specified

    def add(self, result: dict[str, Any]) -> None:
        """Takes in a variant, as conftest.py writes it."""
        self.variants += 1
        self.seconds += result["seconds"]
        if result["outcome"] == "passed":
            self.good += 1
        else:
            reason = result["reason"] or result["outcome"]
            self.faults.append(f"{self.name}, {result['variant']}: {reason}")
        for kind, name, value, of in result["figures"]:
            self._add_figure(kind, name, value, of)

    def _add_figure(self, kind: str, name: str, value: float, of: float) -> None:
        known = self.figures.get((kind, name), [0, 0])
        most = kind == "most"
        self.figures[kind, name] = [
            max(known[0], value) if most else known[0] + value,
            known[1] + of,
        ]

    def row(self) -> str:
        """Returns the row in Markdown."""
        number, _, _ = self.name.partition("_")
        figures = "; ".join(
            _written(kind, name, *values) for (kind, name), values in self.figures.items()
        )
        return (
            f"| {int(number)} | {self.title} | {self.variants} | {self.good} | {figures} | "
            f"{self.seconds:.0f} |"
        )


def _written(kind: str, name: str, value: float, of: float) -> str:
    if kind == "count":
        return f"{value:g} of {of:g} {name}"
    if kind == "most":
        return f"at most {value:.2g} {name}" if value < 10 else f"at most {value:.0f} {name}"
    return f"{value:g} {name}"


def collected(lines: Iterable[str], titles: dict[str, str]) -> list[Case]:
    """Returns the cases from the lines of JSON that conftest.py writes, by their numbers."""
    found: dict[str, Case] = {}
    for line in lines:
        result = json.loads(line)
        name = result["case"]
        if not name[:2].isdigit():  # a test of the cases themselves
            continue
        found.setdefault(name, Case(name, titles.get(name, name))).add(result)
    return sorted(found.values(), key=lambda case: case.name)


def titles() -> dict[str, str]:
    """Returns the first lines of the docstrings of the cases, without their full stops."""
    found = {}
    for path in sorted(CASES.glob("test_[0-9][0-9]_*.py")):
        told = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
        found[path.stem.removeprefix("test_")] = told.partition("\n")[0].rstrip(".")
    return found


def table(cases: Sequence[Case], seconds: float) -> str:
    """Returns the table in Markdown, and what is not as specified.

    Args:
        cases: Its rows.
        seconds: That all took together.
    """
    variants, good = (sum(getattr(case, what) for case in cases) for what in ("variants", "good"))
    whole = sum(case.variants == case.good for case in cases)
    lines = [
        *HEADER,
        *(case.row() for case in cases),
        "",
        f"{whole} of {len(cases)} cases, {good} of {variants} variants as specified; "
        f"{seconds:.0f} s.",
    ]
    faults = [fault for case in cases for fault in case.faults]
    if faults:
        lines += ["", "Not as specified:", "", *(f"- {fault}" for fault in faults)]
    return "\n".join(lines) + "\n"


def heading(kills: int) -> str:
    """Returns the heading of a page with the table: what ran, when, and on which processor."""
    chip = processor()
    return (
        "# Cases and figures\n\n"
        f"`make faults KILLS={kills}` on {date.today():%Y-%m-%d}, {chip.cores} cores of "
        f"{chip.name} ({chip.level}).\n"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the cases, prints the table, and returns pytest's exit code."""
    parser = argparse.ArgumentParser(description="Runs the cases and prints a table of them.")
    parser.add_argument("--out", type=Path, help="a file for the table, too")
    parser.add_argument("--kills", type=int, default=20, help="trials of case 1 (default: 20)")
    parser.add_argument("--quick", action="store_true", help="leave out the slow variants")
    given, more = parser.parse_known_args(argv)
    marks = "not gpu and not peer" + (" and not slow" if given.quick else "")
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results.jsonl"
        results.touch()
        code = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-m", marks, str(CASES), *more],
            cwd=CASES.parents[1],
            env=os.environ | {"FOREBEAR_FAULTS": str(results), "FAULTS_KILLS": str(given.kills)},
            stdout=sys.stderr,
            check=False,
        ).returncode
        lines = results.read_text("utf-8").splitlines()
    told = table(collected(lines, titles()), time.monotonic() - started)
    print(told, end="")
    if given.out is not None:
        given.out.write_text(f"{heading(given.kills)}\n{told}", encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
