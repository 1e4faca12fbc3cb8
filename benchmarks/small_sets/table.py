"""The results of benchmarks/small_folders.py as a table and a plot."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

T = (math.nan, 12.706, 4.303, 3.182, 2.776)  # Student's t, 97.5 %, by degrees of freedom


@dataclass(frozen=True, slots=True)
class Row:
    """One finished cell."""

    contender: str
    set: str
    count: int
    minutes: float
    split: int
    accuracy: float  # of the test images, 0 to 1
    seconds: float  # to the end of the training
    processor: str


Key = tuple[str, int, float]  # set, count, minutes


def text(accuracies: Sequence[float]) -> str:
    """Returns mean and 95 % interval in percent; the mean alone if there is one split."""
    if not accuracies:
        return "-"
    mean = 100 * statistics.mean(accuracies)
    if len(accuracies) == 1:
        return f"{mean:.1f}"
    freedom = min(len(accuracies) - 1, len(T) - 1)
    half = T[freedom] * statistics.stdev(accuracies) / math.sqrt(len(accuracies))
    return f"{mean:.1f} ± {100 * half:.1f}"


def cells(rows: Sequence[Row]) -> dict[Key, dict[str, list[Row]]]:
    """Returns the rows by cell and contender."""
    found: dict[Key, dict[str, list[Row]]] = {}
    for row in sorted(rows, key=lambda one: (one.set, one.count, one.minutes, one.split)):
        key = (row.set, row.count, row.minutes)
        found.setdefault(key, {}).setdefault(row.contender, []).append(row)
    return found


def markdown(rows: Sequence[Row], contenders: Sequence[str], left_out: Sequence[str]) -> str:
    """Returns the page."""
    lines = [
        "# Small folders: accuracy after a few minutes",
        "",
        "Accuracy of held-out images in percent, mean and 95 % interval over the splits (Student's "
        "t), and the seconds that the training took. All contenders get the same images, the same "
        "base weights (torchvision's ResNet-18, trained for ten minutes on five other classes of "
        "Imagenette), batches of an eighth of the images, at most 64, and at most 40 epochs or 300 "
        "steps. Seconds count from the start of the process.",
        "",
        f"Processor: {', '.join(sorted({row.processor for row in rows}))}. Made by "
        "`benchmarks/small_folders.py`, which says what each contender is.",
        "",
        "| set | images | minutes | splits | " + " | ".join(contenders) + " |",
        "| --- | ---: | ---: | ---: |" + " ---: |" * len(contenders),
    ]
    for (name, count, minutes), found in cells(rows).items():
        splits = max(len(own) for own in found.values())
        entries = [_entry(found.get(one, [])) for one in contenders]
        lines.append(
            f"| {name} | {count:,} | {minutes:g} | {splits} | " + " | ".join(entries) + " |"
        )
    lines += ["", "## What was not run", "", *(f"- {one}" for one in left_out), ""]
    return "\n".join(lines)


def _entry(rows: Sequence[Row]) -> str:
    if not rows:
        return "-"
    seconds = statistics.mean(row.seconds for row in rows)
    return f"{text([row.accuracy for row in rows])} ({seconds:.0f} s)"


def plot(rows: Sequence[Row], contenders: Sequence[str], path: Path) -> None:
    """Draws the mean accuracy by the number of images, one panel a set."""
    from matplotlib import pyplot

    minutes = max(row.minutes for row in rows)
    names = sorted({row.set for row in rows})
    figure, panels = pyplot.subplots(
        1, len(names), figsize=(3.2 * len(names), 3.2), squeeze=False, layout="constrained"
    )
    for panel, name in zip(panels[0], names, strict=True):
        for one in contenders:
            means: dict[int, list[float]] = {}
            for row in rows:
                if (row.set, row.contender, row.minutes) == (name, one, minutes):
                    means.setdefault(row.count, []).append(100 * row.accuracy)
            counts = sorted(means)
            values = [statistics.mean(means[count]) for count in counts]
            width = 2.5 if one == "forebear" else 1.2
            panel.plot(counts, values, marker="o", linewidth=width, label=one)
        panel.set(title=name, xscale="log", xlabel="training images")
        counts = sorted({row.count for row in rows if row.set == name})
        panel.set_xticks(counts, [f"{count:,}" for count in counts])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel(f"accuracy after {minutes:g} minutes, %")
    panels[0][-1].legend(fontsize=7)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
