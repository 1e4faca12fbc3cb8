"""The answers of all peers as a table in Markdown, with forebear's own column beside them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from peer_faults.cases import CASES

OURS = Path(__file__).parents[1] / "results" / "faults.md"  # as make faults writes it
COLUMNS = {"timm": "timm `train.py`", "vision": "torchvision script", "keras": "Keras `fit`"}
_LONGEST = 170  # characters of a remark
_OUR_ROW = re.compile(r"\| (\d+) \| [^|]* \| (\d+) \| (\d+) \|")
_ABSENT = {
    "NCCL": "needs CUDA and NCCL",
    "launcher": "nothing starts several processes on a CPU",
    "": "the scenario could not be started",
}


def report(answers: dict[str, Any], scripts: dict[str, str], machine: str, day: str) -> str:
    """Returns the page.

    Args:
        answers: For each peer its versions, and a result for each number of a case.
        scripts: SHA-256 of the training scripts that ran, by peer; "" for one that has none.
        machine: The processor, for the heading.
        day: On which it was measured.
    """
    versions = "; ".join(
        f"{one['versions']}" + (f" (train.py {scripts[name][:12]})" if scripts.get(name) else "")
        for name, one in answers.items()
    )
    ours = _ours()
    lines = [
        "# The same cases on other trainers",
        "",
        f"`python benchmarks/faults_peers.py` on {machine}, {day}: timm's `train.py`, "
        "torchvision's reference script and Keras' `fit`, each with its own options for safety. "
        "The networks are a ResNet-18 or a few convolutions, on some 100 small images. "
        f"{versions}.",
        "",
        '"As specified" is what `tests/faults` expects of forebear, and "partly" means some of the '
        "variants. Variants that do not apply to a peer are left out. forebear's column counts the "
        "variants of `make faults`, which tries more of them.",
        "",
        f"| case | forebear | {' | '.join(COLUMNS.values())} |",
        f"| --- | --- |{' --- |' * len(COLUMNS)}",
    ]
    for case in CASES:
        cells = [cell(answers.get(name, {}).get("cases", {}).get(str(case.number)))
                 for name in COLUMNS]  # fmt: skip
        own = ours.get(case.number, "not run")
        lines.append(f"| {case.number} {case.title} | {own} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _ours() -> dict[int, str]:
    rows = (_OUR_ROW.match(line) for line in OURS.read_text().splitlines())
    return {int(row[1]): f"{row[3]} of {row[2]}" for row in rows if row}


def cell(answer: dict[str, Any] | None) -> str:
    """Returns verdict, count and remark of one case on one peer."""
    if answer is None:
        return "not run"
    remark = re.sub(r"/tmp/\S+", "FILE", answer["remark"].replace("|", "/").split("\n")[0])
    if answer["verdict"] == "not run":
        why = next(told for word, told in _ABSENT.items() if word in remark)
        return f"not run: {why}"
    if len(remark) > _LONGEST:
        whole, _, _ = remark[:_LONGEST].rpartition(";")
        remark = whole or f"{remark[: _LONGEST - 3]}..."
    count = f" ({answer['good']} of {answer['of']})" if answer["of"] else ""
    return f"**{answer['verdict']}**{count}: {remark}"
