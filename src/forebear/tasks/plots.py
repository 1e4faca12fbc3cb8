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
    figure.suptitle(title, fontsize=10)
    loss, accuracy, rate = figure.subplots(1, 3)
    numbers = [epoch.epoch for epoch in epochs]
    marker = "o" if len(epochs) < 15 else ""
    style = {"marker": marker, "markersize": 3, "linewidth": 1.6}
    loss.plot(numbers, [e.loss for e in epochs], color=BLUE, label="training", **style)
    loss.plot(numbers, [e.val_loss for e in epochs], color=ORANGE, label="held out", **style)
    loss.set_title("loss (nats)", fontsize=10)
    if min(min(e.loss, e.val_loss) for e in epochs) > 0:
        loss.set_yscale("log")
    shares = [100 * e.accuracy for e in epochs]
    held = [100 * e.val_accuracy for e in epochs]
    accuracy.plot(numbers, shares, color=BLUE, label="training", **style)
    accuracy.plot(numbers, held, color=ORANGE, label="held out", **style)
    accuracy.set_title(f"accuracy (%), last held out {held[-1]:.2f}", fontsize=10)
    rate.plot(numbers, [e.lr for e in epochs], color=GREY, **style)
    rate.set_title("learning rate at the epoch's end", fontsize=10)
    for axes in (loss, accuracy, rate):
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.get_major_locator().set_params(integer=True)
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
