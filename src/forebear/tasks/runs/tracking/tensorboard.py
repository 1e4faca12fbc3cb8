"""Writes the metrics of a run as TensorBoard events; `tensorboard --logdir RUN` shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from forebear.tasks.runs.layout import TENSORBOARD
from forebear.tasks.runs.tracking.tracker import Settings, imported

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def _writer() -> type[SummaryWriter]:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter


class TensorBoard:
    """Writes one point per epoch, over the steps."""

    replaces = True

    def __init__(self, folder: Path) -> None:
        """Writes nothing yet.

        Args:
            folder: Of the run.

        Raises:
            ForebearError: TensorBoard is not installed.
        """
        self._make = imported(_writer, "tensorboard")
        self._path = folder / TENSORBOARD
        self._settings: Settings = {}
        self._writer: SummaryWriter | None = None

    def start(self, settings: Settings, known: str) -> str:
        """Keeps the settings of a new run, which are written as a table before its first point."""
        self._settings = {} if known else settings
        return "events"

    def epoch(self, step: int, values: Mapping[str, float]) -> None:
        """Adds points. The first call hides the points of an interrupted run from its step on."""
        if self._writer is None:
            self._writer = self._make(str(self._path), purge_step=step)
            if self._settings:
                self._writer.add_text("settings", _table(self._settings), 0)
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def finish(self, step: int, values: Mapping[str, float], files: Sequence[Path]) -> None:
        """Adds the metrics of the final weights; TensorBoard takes no files."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
        self.close()

    def close(self) -> None:
        """Closes the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _table(settings: Settings) -> str:
    """The settings as a table in Markdown."""
    rows = (f"| {name} | {_cell(value)} |" for name, value in settings.items())
    return "\n".join(("| setting | value |", "| --- | --- |", *rows))


def _cell(value: str | int | float | bool) -> str:
    return str(value).replace("|", "\\|")
