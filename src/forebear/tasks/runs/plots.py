"""Plots of runs with matplotlib: curves, confusion matrices and comparisons."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from forebear.errors import ForebearError
from forebear.files import write_whole
from forebear.tasks.runs.formatting import class_title
from forebear.text import elided

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from forebear.tasks.calibration import Reliability
    from forebear.tasks.evaluate import Evaluation
    from forebear.tasks.runs.metrics import Epoch

BLUE, ORANGE, GREY, RED = "#1f5fa8", "#d9731a", "#8a8f98", "#b3261e"
# Distinct with every kind of colour vision: Okabe and Ito 2008, without their yellow.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#000000")
DASHES = ("-", "--", ":", "-.")
MARKS = ("o", "s", "^", "D", "v", "P", "X")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One run in a comparison, with one point per evaluation."""

    name: str
    colour: int  # runs of one setting have the same number
    dash: int  # runs on the same images have the same number
    mark: int  # runs of one setting have different numbers
    epochs: Sequence[float]
    minutes: Sequence[float]
    accuracies: Sequence[float]  # validation, 0 to 1


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def draw_curves(epochs: Sequence[Epoch], path: Path, title: str) -> None:
    """Draws loss, accuracy and learning rate over the epochs of a run as a PNG.

    Steps that were skipped because their gradient was not finite are marked below the loss.

    Raises:
        ForebearError: matplotlib is not installed.
        OSError: The file cannot be written.
    """
    figure = _figure(9, 3.4)
    figure.suptitle(elided(title), fontsize=10, parse_math=False)
    loss, accuracy, rate = figure.subplots(1, 3)
    ends = [float(epoch.epoch) for epoch in epochs]
    starts = [0.0, *ends[:-1]]  # with a budget several epochs can pass before an evaluation
    parts = [
        start + (end - start) * (part + 1) / len(epoch.losses)
        for start, end, epoch in zip(starts, ends, epochs, strict=True)
        for part in range(len(epoch.losses))
    ]
    points = {"marker": "o" if len(epochs) < 15 else "", "markersize": 3.5, "linewidth": 1.6}
    losses = _finite([value for epoch in epochs for value in epoch.losses])
    validation = _finite([epoch.val_loss for epoch in epochs])
    loss.plot(parts, losses, color=BLUE, label="training", linewidth=1.0)
    loss.plot(ends, validation, color=ORANGE, label="validation", **points)
    kind = "cross-entropy" if epochs[-1].val_map is None else "binary cross-entropies"
    loss.set_title(f"loss ({kind}, nats)", fontsize=10)
    both = np.concatenate([losses, validation])
    both = both[np.isfinite(both)]
    if len(both) and both.min() > 0 and both.max() > 10 * both.min():
        loss.set_yscale("log")
    _mark_skipped(loss, epochs, starts)
    loss.legend(frameon=False, fontsize=9)
    accuracy.plot(ends, [100 * epoch.accuracy for epoch in epochs], color=BLUE, **points)
    accuracy.plot(ends, [100 * epoch.val_accuracy for epoch in epochs], color=ORANGE, **points)
    last = f"accuracy (%), validation at the end {100 * epochs[-1].val_accuracy:.2f}"
    precisions = [epoch.val_map for epoch in epochs if epoch.val_map is not None]
    if len(precisions) == len(epochs):  # multi-label
        shares = [100 * value for value in precisions]
        accuracy.plot(ends, shares, color=COLOURS[2], label="mAP, validation", **points)
        accuracy.lines[0].set_label("exact match, training")
        accuracy.lines[1].set_label("exact match, validation")
        accuracy.legend(frameon=False, fontsize=8)
        last = f"%, validation mAP at the end {shares[-1]:.2f}"
    accuracy.set_title(last, fontsize=10)
    rate.plot(parts, [lr for epoch in epochs for lr in epoch.lrs], color=GREY, linewidth=1.6)
    rate.set_title("learning rate", fontsize=10)
    rate.set_ylim(bottom=0)
    for axes in (loss, accuracy, rate):
        _over(axes, "epoch", max(ends))
    _save(figure, path, dpi=150)


def draw_confusion(evaluation: Evaluation, path: Path, title: str) -> None:
    """Draws the confusion matrix as a PNG, with numbers in the cells for up to 20 classes.

    Raises:
        ForebearError: matplotlib is not installed.
        OSError: The file cannot be written.
    """
    classes, counts = [class_title(name, 24) for name in evaluation.classes], evaluation.confusion
    named = len(classes) <= 60
    cell = 0.45 if len(classes) <= 20 else 0.16  # inches
    side = min(max(3.0, cell * len(classes) + 1.3), 11)
    room = 0.09 * max(map(len, classes)) if named else 0.4  # inches, for the names
    figure = _figure(side + room + 0.6, side + room)
    axes = figure.subplots()
    fractions = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    image = axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    right = f"{evaluation.top1:.2%} of {evaluation.images:,} correct"
    heading = f"{elided(title, int(12 * (side + room)))}\n{right}"
    figure.suptitle(heading, fontsize=10, parse_math=False)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    if named:
        size = 9 if len(classes) <= 20 else 7
        places = range(len(classes))
        axes.set_xticks(places, classes, rotation=90, fontsize=size, parse_math=False)
        axes.set_yticks(places, classes, fontsize=size, parse_math=False)
    if len(classes) <= 20:
        for row, column in zip(*np.nonzero(counts), strict=True):
            colour = "white" if fractions[row, column] > 0.5 else "black"
            axes.text(
                column, row, counts[row, column], ha="center", va="center", color=colour, fontsize=7
            )
    figure.colorbar(image, ax=axes, shrink=0.8, label="fraction of the true class")
    _save(figure, path, dpi=130)


def draw_reliability(curves: Mapping[str, Reliability], path: Path, title: str) -> None:
    """Draws reliability diagrams as a PNG, side by side: accuracy over confidence, and the images.

    The gap between a bar and the diagonal is the calibration error of a bin (Guo et al. 2017,
    figure 1).

    Args:
        curves: The bins by their names.
        path: The file.
        title: Of the whole figure.

    Raises:
        ForebearError: matplotlib is not installed.
        OSError: The file cannot be written.
    """
    figure = _figure(3.6 * len(curves) + 0.4, 4.4)
    figure.suptitle(elided(title, 48 * len(curves)), fontsize=10, parse_math=False)
    panels = figure.subplots(2, len(curves), squeeze=False, height_ratios=(3, 1), sharex=True)
    for column, (name, bins) in enumerate(curves.items()):
        upper, lower = panels[:, column]
        count = len(bins.counts)
        left = np.arange(count) / count
        width, lower_end = 1 / count, np.minimum(bins.accuracy, bins.confidence)
        gap = np.abs(bins.accuracy - bins.confidence)
        style = {"align": "edge", "edgecolor": "white"}
        upper.bar(left, bins.accuracy, width, color=BLUE, alpha=0.6, label="accuracy", **style)
        style |= {"edgecolor": RED, "hatch": "////"}
        upper.bar(left, gap, width, lower_end, color="none", label="gap", **style)
        upper.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
        upper.set_title(f"{name}: ECE {bins.ece:.2%}", fontsize=10, parse_math=False)
        upper.set_xlim(0, 1)
        upper.set_ylim(0, 1)
        upper.legend(frameon=False, fontsize=8, loc="upper left")
        lower.bar(left, bins.counts, 1 / count, align="edge", color=GREY)
        lower.set_xlabel("confidence (probability of the guess)", fontsize=9)
        if column == 0:
            upper.set_ylabel("share of right guesses", fontsize=9)
            lower.set_ylabel("images", fontsize=9)
    _save(figure, path, dpi=130)


def draw_comparison(lines: Sequence[Line], path: Path, title: str) -> None:
    """Draws validation accuracy over minutes and over epochs, one line per run, as a PNG.

    Raises:
        ForebearError: matplotlib is not installed.
        OSError: The file cannot be written.
    """
    figure = _figure(10, 4 + 0.12 * len(lines))
    figure.suptitle(elided(title), fontsize=10, parse_math=False)
    by_minutes, by_epochs = figure.subplots(1, 2, sharey=True)
    for line in lines:
        style = {
            "color": COLOURS[line.colour % len(COLOURS)],
            "linestyle": DASHES[line.dash % len(DASHES)],
            "marker": MARKS[line.mark % len(MARKS)],
            "markevery": max(1, len(line.epochs) // 12),
            "markersize": 4,
            "linewidth": 1.6,
            "alpha": 0.85,
        }
        percentages = 100 * np.array(line.accuracies)
        by_minutes.plot(line.minutes, percentages, label=_label(line), **style)
        by_epochs.plot(line.epochs, percentages, **style)
    kind = title.partition(";")[0]
    by_minutes.set_ylabel(f"{kind[:1].lower()}{kind[1:]} (%)")
    for axes, what in ((by_minutes, "minutes"), (by_epochs, "epochs")):
        ends = [max(getattr(line, what), default=0.0) for line in lines]
        _over(axes, what, max(ends, default=0.0))
    legend = figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    for text in legend.get_texts():
        text.set_parse_math(False)
    _save(figure, path, dpi=150)


def _figure(width: float, height: float) -> Figure:
    if not can_draw():
        raise ForebearError(
            "matplotlib is not installed. Expected it for plots. Run pip install 'forebear[plots]'."
        )
    from matplotlib.figure import Figure

    return Figure((width, height), layout="constrained")


def _save(figure: Figure, path: Path, *, dpi: int) -> None:
    """Writes a PNG atomically. A letter that the font lacks becomes a box without a warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        write_whole(path, lambda partial: figure.savefig(partial, dpi=dpi, format="png"))


def _over(axes: Axes, label: str, end: float) -> None:
    """Sets what all curves have in common: an axis from 0 to a little more than `end`."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel(label)
    axes.set_xlim(0, 1.03 * end or 1.0)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=end >= 2))


def _mark_skipped(axes: Axes, epochs: Sequence[Epoch], starts: Sequence[float]) -> None:
    """Marks the epochs in which steps were skipped by crosses at the bottom."""
    counts = [int(getattr(epoch, "skipped", 0)) for epoch in epochs]
    if not counts[-1]:
        return
    middles = [
        (start + float(epoch.epoch)) / 2
        for start, epoch, now, before in zip(starts, epochs, counts, [0, *counts[:-1]], strict=True)
        if now > before
    ]
    label = f"{counts[-1]:,} {'step' if counts[-1] == 1 else 'steps'} skipped"
    axes.plot(
        middles,
        [0.02] * len(middles),
        linestyle="",
        marker="x",
        markersize=5,
        color=RED,
        label=label,
        transform=axes.get_xaxis_transform(),
    )


def _finite(values: Sequence[float]) -> NDArray[np.float64]:
    """Replaces infinite values by nan, which leaves gaps in a curve."""
    numbers = np.array(values, dtype=np.float64)
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _label(line: Line) -> str:
    """Name and last accuracy. The leading blank is needed: legends leave out what begins with _."""
    last = f"  {line.accuracies[-1]:.2%}" if line.accuracies else ""
    return f" {elided(line.name, 60)}{last}"
