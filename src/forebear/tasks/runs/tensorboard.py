"""Writes the metrics of a run as TensorBoard events, if asked for."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebear.errors import ForebearError
from forebear.tasks.runs.layout import TENSORBOARD

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_TAGS = {  # key of metrics.jsonl to the chart and the line in it
    "loss": "loss/training",
    "val_loss": "loss/validation",
    "accuracy": "accuracy/training",
    "val_accuracy": "accuracy/validation",
    "val_balanced": "accuracy/validation, balanced",
    "val_macro_f1": "F1/validation, mean of the classes",
    "lr": "run/learning rate",
    "images_per_second": "run/images per second",
    "memory": "run/memory in MiB",
    "skipped": "run/steps skipped",
    "epoch": "run/epoch",
}


def summary_writer() -> type[SummaryWriter]:
    """Returns torch's writer of TensorBoard events.

    Raises:
        ForebearError: TensorBoard is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ForebearError(
            f"tensorboard cannot be imported ({error}). Expected it for --tensorboard. "
            "Run pip install 'forebear[tensorboard]'."
        ) from error
    return SummaryWriter


class Scalars:
    """Writes one point per epoch, over the steps; `tensorboard --logdir RUN` shows them."""

    def __init__(self, folder: Path) -> None:
        """Writes nothing yet.

        Args:
            folder: Of the run.

        Raises:
            ForebearError: TensorBoard is not installed.
        """
        self._make = summary_writer()
        self._path = folder / TENSORBOARD
        self._writer: SummaryWriter | None = None

    def epoch(self, epoch: Mapping[str, Any]) -> None:
        """Adds the metrics of an epoch. Missing keys and values that are no number are left out.

        The first call hides the points of an interrupted run from its step on.
        """
        step = int(epoch["step"])
        if self._writer is None:
            self._writer = self._make(str(self._path), purge_step=step)
        for key, tag in _TAGS.items():
            value = epoch.get(key)
            if isinstance(value, int | float) and math.isfinite(value):
                self._writer.add_scalar(tag, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        if self._writer is not None:
            self._writer.close()
