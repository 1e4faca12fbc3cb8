"""Pictures of a run: curves and confusion matrices, by matplotlib."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from forebear.errors import ForebearError
from forebear.files import write_whole
from forebear.tasks.evaluate import Evaluation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from forebear.tasks.train.loop import Epoch

BLUE, ORANGE, GREY = "#1f5fa8", "#d9731a", "#8a8f98"


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def _figure(width: float, height: float) -> Figure:
    if not can_draw():
        raise ForebearError(
            "matplotlib is not installed. Expected it for pictures of runs. "
            "Run pip install 'forebear[plots]'."
        )
    from matplotlib.figure import Figure

    return Figure((width, height), layout="constrained")


def draw_curves(epochs: Sequence[Epoch], path: Path, title: str) -> None:
    """Draws loss, accuracy and learning rate over the epochs of a run as a PNG."""
    figure = _figure(9, 3.4)
    from matplotlib.ticker import MaxNLocator

    figure.suptitle(title, fontsize=10)
    loss, accuracy, rate = figure.subplots(1, 3)
    ends = [epoch.epoch for epoch in epochs]
    parts = [
        epoch.epoch - 1 + (part + 1) / len(epoch.losses)
        for epoch in epochs
        for part in range(len(epoch.losses))
    ]
    marker = "o" if len(epochs) < 15 else ""
    style = {"marker": marker, "markersize": 3.5, "linewidth": 1.6}
    losses = [value for epoch in epochs for value in epoch.losses]
    held = [epoch.val_loss for epoch in epochs]
    loss.plot(parts, losses, color=BLUE, label="training", linewidth=1.0)
    loss.plot(ends, held, color=ORANGE, label="held out", **style)
    loss.set_title("loss (cross-entropy, nats)", fontsize=10)
    if min(*losses, *held) > 0 and max(losses) > 10 * min(*losses, *held):
        loss.set_yscale("log")
    shares = [100 * epoch.accuracy for epoch in epochs]
    accuracy.plot(ends, shares, color=BLUE, label="training", **style)
    accuracy.plot(ends, [100 * epoch.val_accuracy for epoch in epochs], color=ORANGE, **style)
    last = f"accuracy (%), held out at last {100 * epochs[-1].val_accuracy:.2f}"
    accuracy.set_title(last, fontsize=10)
    rate.plot(parts, [lr for epoch in epochs for lr in epoch.lrs], color=GREY, linewidth=1.6)
    rate.set_title("learning rate", fontsize=10)
    for axes in (loss, accuracy, rate):
        axes.set_xlabel("epoch")
        axes.set_xlim(0, max(ends) * 1.03)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    loss.legend(frameon=False, fontsize=9)
    write_whole(path, lambda partial: figure.savefig(partial, dpi=150))


def draw_confusion(evaluation: Evaluation, path: Path, title: str) -> None:
    """Draws true against named classes as a PNG; numbers stand in the cells of up to 20 classes."""
    classes, counts = evaluation.classes, evaluation.confusion
    side = min(max(3.5, 0.45 * len(classes) + 1.8), 14)
    figure = _figure(side + 0.6, side)
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_title(f"{title}\n{evaluation.top1:.2%} of {evaluation.images:,} right", fontsize=10)
    axes.set_xlabel("named as")
    axes.set_ylabel("true class")
    if len(classes) <= 60:
        size = 9 if len(classes) <= 20 else 6
        axes.set_xticks(range(len(classes)), classes, rotation=90, fontsize=size)
        axes.set_yticks(range(len(classes)), classes, fontsize=size)
    if len(classes) <= 20:
        for row, column in zip(*np.nonzero(counts), strict=True):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(
                column, row, counts[row, column], ha="center", va="center", color=colour, fontsize=7
            )
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true class")
    write_whole(path, lambda partial: figure.savefig(partial, dpi=130))
