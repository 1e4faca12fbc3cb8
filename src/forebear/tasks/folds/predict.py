"""Predicts each image of a cross-validation by the network of the fold that did not see it."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from forebear.data.choices import Bad
from forebear.data.loader import Loader
from forebear.data.pixel_store import PixelStore
from forebear.data.sources.fold_split import FoldPlan
from forebear.files import write_whole
from forebear.network.finite import check_finite
from forebear.network.network import Network
from forebear.tasks.evaluate import Evaluation, evaluate
from forebear.tasks.evaluation_set import match_classes
from forebear.tasks.machine.device import find_device
from forebear.tasks.machine.thread_tuning import ThreadTuner
from forebear.tasks.metrics import ClassCounts, count_classes
from forebear.tasks.train.out_of_memory import explain_evaluation
from forebear.text import one_line

_BATCH = 64  # images
LEFT_OUT = -1  # the prediction for an image that cannot be decoded


@dataclass(frozen=True, slots=True, eq=False)
class OutOfFold:
    """Predictions for N images, each from a network that was not trained on it."""

    classes: tuple[str, ...]  # K, of the data set
    labels: NDArray[np.int64]  # [N]
    folds: NDArray[np.int64]  # [N], 1 to the number of folds
    guesses: NDArray[np.int64]  # [N]; LEFT_OUT for images that cannot be decoded
    probabilities: NDArray[np.float32]  # [N, K], softmax without a temperature; NaN if left out

    @property
    def predicted(self) -> NDArray[np.bool_]:
        """Mask of the images that have a prediction [N]."""
        there: NDArray[np.bool_] = self.guesses != LEFT_OUT
        return there

    @property
    def counts(self) -> ClassCounts:
        """Images, predictions and hits of each class."""
        there = self.predicted
        return count_classes(self.labels[there], self.guesses[there], len(self.classes))

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Confusion matrix [true class, predicted class], in images."""
        count, there = len(self.classes), self.predicted
        cells = self.labels[there] * count + self.guesses[there]
        return np.bincount(cells, minlength=count * count).reshape(count, count)


class Predictor:
    """Collects the predictions of all folds."""

    def __init__(self, plan: FoldPlan, *, device: str, bad: Bad) -> None:
        """Predicts nothing yet.

        Args:
            plan: The folds and their images.
            device: auto, cpu or cuda.
            bad: "fail" raises an error for an image that cannot be decoded, "skip" leaves it out.
        """
        self.plan, self._device, self._bad = plan, find_device(device), bad
        count, width = len(plan.images), len(plan.data.classes)
        self._guesses = np.full(count, LEFT_OUT, np.int64)
        self._probabilities = np.full((count, width), np.nan, np.float32)
        self.left_out: list[str] = []  # images that cannot be decoded, and why

    def add(self, number: int, network: Network) -> Evaluation:
        """Predicts the validation images of a fold, and returns their evaluation.

        Args:
            number: Of the fold, 1 or more.
            network: That of the fold's run.

        Raises:
            DataError: An image cannot be read.
            RunError: A batch does not fit in memory.
            WeightsError: The logits are not finite.
        """
        places = self.plan.places(number)
        images = self.plan.images.take(places)
        store = PixelStore(images, network.preprocessing, bad=self._bad)
        match = match_classes(network.classes, network.plan.num_classes or 0, self.plan.data)
        batches = Loader(
            store=store,
            labels=match.numbers[images.labels],
            rule=network.preprocessing,
            batch=_BATCH,
            device=self._device,
        )
        model = network.to(self._device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        with (
            closing(ThreadTuner(self._device)) as threads,
            explain_evaluation(model, batches, "fp32"),
        ):
            measured = evaluate(
                model,
                batches,
                network.classes,
                precision="fp32",
                threads=threads,
                keep=np.ones(len(images), bool),
            )
        check_finite(model, torch.from_numpy(measured.losses)[:, None], images.name)
        assert measured.kept is not None
        rows = places[batches.places]
        logits = torch.from_numpy(measured.kept.logits).double()[:, match.numbers]
        self._probabilities[rows] = logits.softmax(1).float().numpy()
        self._guesses[rows] = self._probabilities[rows].argmax(1)
        self.left_out += store.skipped.values()
        return measured

    def found(self) -> OutOfFold:
        """Returns the predictions so far."""
        plan = self.plan
        return OutOfFold(
            classes=plan.data.classes,
            labels=plan.images.labels,
            folds=plan.numbers,
            guesses=self._guesses,
            probabilities=self._probabilities,
        )


def write_table(path: Path, found: OutOfFold, plan: FoldPlan) -> None:
    """Writes the predictions as CSV, one row per image in the order of the data set, atomically.

    Args:
        path: File to create or replace.
        found: The predictions.
        plan: Has the names of the images.

    Raises:
        OSError: The file cannot be written.
    """

    def write(partial: Path) -> None:
        with partial.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(_rows(found, plan))

    write_whole(path, write)


def _rows(found: OutOfFold, plan: FoldPlan) -> Iterator[Sequence[object]]:
    names = [one_line(name) for name in found.classes]
    head = ("image", "path", "label", "fold", "predicted", "probability")
    yield (*head, *(f"probability_{name}" for name in names))
    for at, (label, fold, guess) in enumerate(
        zip(found.labels.tolist(), found.folds.tolist(), found.guesses.tolist(), strict=True)
    ):
        known = (at, one_line(plan.images.name(at)), names[label], fold)
        if guess == LEFT_OUT:
            yield (*known, *[""] * (2 + len(names)))
        else:
            own = [f"{value:.6g}" for value in found.probabilities[at].tolist()]
            yield (*known, names[guess], own[guess], *own)
