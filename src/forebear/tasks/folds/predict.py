"""Predicts each image of a cross-validation by the network of the fold that did not see it."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import torch

from forebear.data.choices import Bad
from forebear.data.labels import is_multi
from forebear.data.loader import Loader
from forebear.data.pixel_store import PixelStore
from forebear.data.sources.fold_split import FoldPlan
from forebear.files import write_whole
from forebear.network.finite import check_finite
from forebear.network.network import Network
from forebear.tasks.evaluation_batches import logits_of
from forebear.tasks.evaluation_set import match_classes, matched
from forebear.tasks.folds.out_of_fold import AnyOutOfFold, LabelsOutOfFold, OutOfFold
from forebear.tasks.machine.device import find_device
from forebear.tasks.machine.thread_tuning import ThreadTuner
from forebear.tasks.train.out_of_memory import explain_evaluation
from forebear.text import one_line

_BATCH = 64  # images


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
        shape = len(plan.images), len(plan.data.classes)
        self._logits = np.full(shape, np.nan, np.float32)
        self.left_out: list[str] = []  # images that cannot be decoded, and why

    def add(self, number: int, network: Network) -> None:
        """Predicts the validation images of a fold.

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
            labels=matched(images.labels, match, network.plan.num_classes or 0),
            rule=network.preprocessing,
            batch=_BATCH,
            device=self._device,
        )
        model = network.to(self._device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        with (
            closing(ThreadTuner(self._device)) as threads,
            explain_evaluation(model, batches, "fp32"),
        ):
            rows = [
                logits.cpu()
                for logits, _ in logits_of(model, batches, precision="fp32", threads=threads)
            ]
        if rows:
            logits = torch.cat(rows)
            check_finite(model, logits, lambda row: images.name(int(batches.places[row])))
            self._logits[places[batches.places]] = logits[:, match.numbers].numpy()
        self.left_out += store.skipped.values()

    def found(self) -> AnyOutOfFold:
        """Returns the predictions so far."""
        plan, labels = self.plan, self.plan.images.labels
        kind: type[AnyOutOfFold] = LabelsOutOfFold if is_multi(labels) else OutOfFold
        return kind(
            classes=plan.data.classes, labels=labels, folds=plan.numbers, logits=self._logits
        )


def write_table(path: Path, found: AnyOutOfFold, plan: FoldPlan) -> None:
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


def _rows(found: AnyOutOfFold, plan: FoldPlan) -> Iterator[Sequence[object]]:
    yield ["image", "path", *found.header()]
    for at in range(len(found.folds)):
        yield [at, one_line(plan.images.name(at)), *found.row(at)]
