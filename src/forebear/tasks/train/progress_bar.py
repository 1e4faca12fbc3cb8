"""What the user sees during training: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import asdict
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from forebear.tasks.runs.choosing import MEASURES, Measure
from forebear.tasks.runs.metrics import Epoch
from forebear.tasks.train.events import EpochProgress
from forebear.text import one_line

_ALWAYS = ("val_accuracy", "val_loss")  # in the line of every run
_EXACT = "exact match"  # what the accuracy of multi-label images is


class _Console(Console):
    """A console that falls silent if the reader of its pipe has exited, such as head."""

    def on_broken_pipe(self) -> None:
        """Goes on without output; rich would end the process."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


class ProgressBar:
    """Writes to stderr; use it as a context."""

    def __init__(
        self,
        epochs: int,
        budget: float = 0.0,
        *,
        measure: Measure = MEASURES["top1"],
        multi_label: bool = False,
        shows: bool = True,
    ) -> None:
        """Shows nothing yet.

        Args:
            epochs: Of the run; 0 if a budget ends it.
            budget: Seconds of the run; 0 without a budget.
            measure: The metric of the run.
            multi_label: Whether images can have several labels.
            shows: Whether anything is written.
        """
        self.epochs, self.budget, self.measure = epochs, budget, measure
        self.multi_label, self.accuracy = multi_label, _EXACT if multi_label else "accuracy"
        self.console = _Console(stderr=True, highlight=False, quiet=not shows)
        self.live = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[state]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=self.console,
            disable=not self.console.is_terminal,
            transient=True,
            speed_estimate_period=60,
        )
        self.task: TaskID | None = None
        self.begun, self.done = time.perf_counter(), 0.0

    def __enter__(self) -> Self:
        self.live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.live.stop()

    def say(self, line: str) -> None:
        """Writes one line above the live one. A run goes on if nobody reads its lines any more."""
        self.console.print(one_line(line), markup=False, emoji=False, soft_wrap=True)

    def starts(self, done: float) -> None:
        """Counts the time that is left from here on.

        Args:
            done: Epochs of an earlier part of the run.
        """
        self.begun, self.done = time.perf_counter(), done

    def decoding(self, done: int, total: int) -> None:
        """Shows how many images have been decoded."""
        self._show("decoding", done, total, f"{done:,} of {total:,} images")

    def progress(self, event: EpochProgress) -> None:
        """Shows how the epoch goes."""
        state = (
            f"loss {event.loss:.3f}  {self.accuracy} {event.accuracy:6.2%}"
            f"  {event.rate:,.0f} images/s  {event.memory / 1024:.1f} GiB"
        )
        of = f"/{self.epochs}" if self.epochs else ""
        self._show(f"epoch {event.epoch}{of}", event.progress, 1.0, state)

    def epoch(self, epoch: Epoch) -> None:
        """Writes one finished epoch as a line."""
        if self.budget:
            named, left = f"epoch {epoch.epoch:.1f}", self.budget - epoch.seconds
        else:
            named = f"epoch {epoch.epoch:>{len(str(self.epochs))}}/{self.epochs}"
            each = (time.perf_counter() - self.begun) / (epoch.epoch - self.done)
            left = each * (self.epochs - epoch.epoch)
        chosen_by = ""
        for measure in self._measures():
            chosen_by += f"  {measure.title} {measure.text(asdict(epoch)[measure.column])}"
        skipped = f"  {epoch.skipped} steps skipped" if epoch.skipped else ""
        self.say(
            f"{named}  loss {epoch.loss:.4f}  {self.accuracy} {epoch.accuracy:7.2%}  validation "
            f"loss {epoch.val_loss:.4f}  {self.accuracy} {epoch.val_accuracy:7.2%}{chosen_by}"
            f"  {epoch.images_per_second:,.0f} images/s{skipped}  {max(left, 0):,.0f} s left"
        )

    def _measures(self) -> list[Measure]:
        """Returns the metrics of an epoch's line besides the loss and the accuracy."""
        several = [MEASURES["mAP"]] if self.multi_label else []
        chosen = [] if self.measure.column in _ALWAYS else [self.measure]
        return list(dict.fromkeys(several + chosen))

    def _show(self, what: str, done: float, total: float, state: str) -> None:
        if self.task is None or self.live.tasks[0].total != total:
            for task in self.live.task_ids:
                self.live.remove_task(task)
            self.task = self.live.add_task(what, total=total, state=state)
        self.live.update(self.task, description=what, completed=done, state=state)
