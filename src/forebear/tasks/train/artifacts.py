"""What a run folder shows of a run: images, curves and the page. A run goes on without them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from forebear.data.dataset import Dataset
from forebear.data.labels import counts, names, without_label
from forebear.data.loader import Loader, Order
from forebear.errors import DataError
from forebear.network.network import Network
from forebear.tasks.calibration import Fit
from forebear.tasks.evaluate import Evaluation
from forebear.tasks.label_evaluation import AnyEvaluation
from forebear.tasks.runs.class_table import class_table, write_class_table
from forebear.tasks.runs.examples import Examples, choose_examples, write_examples
from forebear.tasks.runs.html_report import write_index
from forebear.tasks.runs.image_grid import as_pixels, draw_label_mistakes, draw_mistakes, draw_sheet
from forebear.tasks.runs.label_table import label_table, write_label_table
from forebear.tasks.runs.layout import CONFUSION, CURVES, MISTAKES, PICTURES, RELIABILITY
from forebear.tasks.runs.metrics import Epoch
from forebear.tasks.runs.plots import can_draw, draw_confusion, draw_curves, draw_reliability
from forebear.tasks.train.optim.lr_schedule import side
from forebear.tasks.train.progress_bar import ProgressBar
from forebear.tasks.train.recipe import Recipe

SHEET = 36  # images
DRAWING = 30  # times what drawing the curves takes, at least, until they are drawn again


class Artifacts:
    """Draws into the folder of a run. A full disk costs a plot, not the run."""

    def __init__(
        self,
        path: Path,
        title: str,
        data: Dataset,
        display: ProgressBar,
        *,
        test: Dataset | None = None,
    ) -> None:
        """Draws nothing yet.

        Args:
            path: Folder of the run.
            title: Of the plots.
            data: That the run is trained on.
            display: Shows that something could not be written.
            test: Has the test set, if there is one.
        """
        self.path, self.title, self.classes, self.display = path, title, data.classes, display
        self.training_images = counts(data.train.labels, len(data.classes)).tolist()
        parts = {"training": data.train, "validation": data.val}
        if test is not None:
            parts["test"] = test.val
        self._examples = Examples(
            parts={
                name: counts(images.labels, len(data.classes)).tolist()
                for name, images in parts.items()
            },
            unlabelled={name: without_label(images.labels) for name, images in parts.items()}
            if data.multi_label
            else {},
        )
        self._again = 0.0  # time.perf_counter() before which the curves are not drawn again

    def attempt(self, write: Callable[[], None]) -> None:
        """Writes what the run can do without. If the disk is full, a line says so."""
        try:
            write()
        except (OSError, DataError) as error:
            why = error.strerror if isinstance(error, OSError) else None
            self.display.say(f"{self.path}: not all can be written ({why or error}).")

    def sheet(self, learned: Loader, order: Order, recipe: Recipe) -> None:
        """Draws the images of the first step as the network sees them."""

        def draw() -> None:
            draft = next(learned.drafts(order, 1, among=learned.available()))
            images, labels = learned.view(draft, order, 1, side(recipe, 0.0))
            pixels = as_pixels(images[:SHEET].float().cpu().numpy(), learned.rule)
            titles = [names(label, self.classes, ", ") for label in labels[:SHEET].cpu().numpy()]
            title = f"{self.title}: augmented training images"
            draw_sheet(pixels, titles, self.path / PICTURES, title=title)

        self.attempt(draw)

    def curves_in_training(self, epochs: Sequence[Epoch], last: AnyEvaluation) -> None:
        """Draws the curves and the page, unless that was done a moment ago.

        Args:
            epochs: All so far.
            last: Evaluation after the last one of them.
        """
        started = time.perf_counter()
        if started > self._again:
            self.curves(epochs, last)
            now = time.perf_counter()
            self._again = started + DRAWING * (now - started)

    def curves(self, epochs: Sequence[Epoch], last: AnyEvaluation) -> None:
        """Draws the curves and the page up to the last epoch.

        Args:
            epochs: All so far.
            last: Evaluation after the last one of them.
        """

        def draw() -> None:
            if can_draw() and epochs:
                draw_curves(epochs, self.path / CURVES, self.title)
            if epochs and last.images:
                self._write_table(last, epochs[-1].epoch)
            write_examples(self._examples, self.path)
            write_index(self.path)

        self.attempt(draw)

    def _write_table(self, last: AnyEvaluation, epoch: float) -> None:
        if isinstance(last, Evaluation):
            write_class_table(class_table(last, self.training_images, epoch), self.path)
        else:
            write_label_table(label_table(last, self.training_images, epoch), self.path)

    def mistakes(self, last: AnyEvaluation, images: Loader) -> None:
        """Draws the worst mistakes, and the confusion matrix of images with one class.

        Args:
            last: Evaluation of the images.
            images: The validation set, or the part of it that was evaluated.
        """

        def draw() -> None:
            if can_draw() and isinstance(last, Evaluation):
                draw_confusion(last, self.path / CONFUSION, self.title)
            if not last.images:
                return
            store, there = images.store, np.sort(images.places[: last.images])
            path, title = self.path / MISTAKES, f"{self.title}: mistakes"
            if isinstance(last, Evaluation):
                draw_mistakes(last, lambda places: store[there[places]], path, title=title)
            else:
                draw_label_mistakes(last, lambda places: store[there[places]], path, title=title)

        self.attempt(draw)

    def examples(self, last: AnyEvaluation, images: Loader, network: Network) -> None:
        """Chooses the single images that the page shows, of images with one class.

        Args:
            last: Evaluation of the images.
            images: The validation set, or the part of it that was evaluated.
            network: Holds the final weights.
        """

        def choose() -> None:
            if isinstance(last, Evaluation) and last.images:
                self._examples = choose_examples(self._examples.parts, last, images, network)

        self.attempt(choose)

    def reliability(self, fit: Fit | None) -> None:
        """Draws the reliability diagram of the temperature of the final weights, if it is known."""

        def draw() -> None:
            if can_draw() and fit is not None:
                curves = {"before": fit.before, "after": fit.after}
                draw_reliability(curves, self.path / RELIABILITY, f"{self.title}: calibration")

        self.attempt(draw)
