"""What one sees of a run in its folder: pictures, curves and the page; never worth a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from forebear.data.loader import Loader, Order
from forebear.errors import DataError
from forebear.tasks.evaluate import Evaluation
from forebear.tasks.runs.html_report import write_index
from forebear.tasks.runs.image_grid import as_pixels, draw_mistakes, draw_sheet
from forebear.tasks.runs.metrics import Epoch
from forebear.tasks.runs.plots import can_draw, draw_confusion, draw_curves
from forebear.tasks.train.job import PreparedRun
from forebear.tasks.train.optim.lr_schedule import side
from forebear.tasks.train.progress_bar import ProgressBar
from forebear.tasks.train.recipe import Recipe

SHEET = 36  # pictures
DRAWING = 30  # times what drawing takes, at least, from one drawing of the curves to the next


class Artifacts:
    """Draws into a run's folder; a full disk costs a picture, not the run."""

    def __init__(self, job: PreparedRun, display: ProgressBar) -> None:
        """Draws nothing yet.

        Args:
            job: whose folder it is.
            display: where it is said that something could not be written.
        """
        self.title, self.path, self.classes = job.title, job.folder.path, job.data.classes
        self.display = display
        self._again = 0.0  # time.perf_counter() before which no curves are drawn again

    def attempt(self, write: Callable[[], None]) -> None:
        """Writes what the run can do without: a full disk costs a line or a picture, no more."""
        try:
            write()
        except (OSError, DataError) as error:
            why = error.strerror if isinstance(error, OSError) else None
            self.display.say(f"{self.path}: not all can be written ({why or error}).")

    def sheet(self, learned: Loader, order: Order, recipe: Recipe) -> None:
        """What the network is given in its first step."""

        def draw() -> None:
            draft = next(learned.drafts(order, 1, among=learned.available()))
            images, labels = learned.view(draft, order, 1, side(recipe, 0.0))
            pixels = as_pixels(images[:SHEET].float().cpu().numpy(), learned.rule)
            titles = [self.classes[label] for label in labels[:SHEET].tolist()]
            title = f"{self.title}: what the network is given"
            draw_sheet(pixels, titles, self.path / "pictures.png", title=title)

        self.attempt(draw)

    def meanwhile(self, epochs: Sequence[Epoch]) -> float:
        """Draws the curves, unless that was done a moment ago; the seconds that it took, else 0."""
        started = time.perf_counter()
        if started <= self._again:
            return 0.0
        self.curves(epochs)
        taken = time.perf_counter() - started
        self._again = started + DRAWING * taken
        return taken

    def curves(self, epochs: Sequence[Epoch]) -> None:
        """The curves and the page, as far as the run is."""

        def draw() -> None:
            if can_draw() and epochs:
                draw_curves(epochs, self.path / "curves.png", self.title)
            write_index(self.path)

        self.attempt(draw)

    def mistakes(self, last: Evaluation, held_out: Loader) -> None:
        """What was named as what, and the worst mistakes."""

        def draw() -> None:
            if can_draw():
                draw_confusion(last, self.path / "confusion.png", self.title)
            if last.images:
                store, there = held_out.store, np.sort(held_out.places[: last.images])
                draw_mistakes(
                    last,
                    lambda places: store[there[places]],
                    self.path / "mistakes.png",
                    title=f"{self.title}: mistakes",
                )

        self.attempt(draw)
