"""Turns the events of a run into its files and into lines for the user."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np

from forebear.data.loader import Loader
from forebear.errors import DiskError
from forebear.network.kernels.measured_choice import summary
from forebear.network.model_card import ModelCard
from forebear.network.multi_label import DEFAULT, MultiLabel
from forebear.network.network import Network
from forebear.tasks.calibration import Fit, calibrate, least_images
from forebear.tasks.label_evaluation import AnyEvaluation, LabelEvaluation
from forebear.tasks.label_metrics import LEAST_POSITIVES, choose_thresholds
from forebear.tasks.runs.layout import BEST
from forebear.tasks.runs.metrics import Epoch
from forebear.tasks.runs.tracking.trackers import Trackers
from forebear.tasks.train.artifacts import Artifacts
from forebear.tasks.train.events import (
    CheckpointDue,
    EpochEnd,
    EpochProgress,
    Event,
    Finished,
    Message,
    Started,
    TrainingEnd,
)
from forebear.tasks.train.input_pipeline import order_of
from forebear.tasks.train.prepare import Prepared
from forebear.tasks.train.progress_bar import ProgressBar
from forebear.tasks.train.resume.checkpoint import save_checkpoint
from forebear.tasks.train.settings_json import settings_of
from forebear.tasks.train.state import TrainState
from forebear.tasks.train.step import Stepper
from forebear.weights.native_format import save

RESUME = "forebear train --resume"
_OF_CLASSES = ("balanced", "balanced_interval", "macro_f1", "macro_f1_interval")


class Recorder:
    """Writes the folder of a run. A disk that is full costs a plot, not the run, until the end.

    In several processes the first one writes, and the others wait for it.
    """

    def __init__(self, run: Prepared, display: ProgressBar) -> None:
        """Writes nothing yet.

        Args:
            run: Whose folder it is.
            display: Shows lines and progress.
        """
        self.run, self.display = run, display
        self.setup, self.folder = run.setup, run.setup.folder
        self.epochs: list[Epoch] = []
        self.left_out: list[str] = []  # images that cannot be decoded, and why
        self.best: Network | None = None  # not written yet
        self.best_fit: Fit | None = None  # None if a run that broke off had the best weights
        self.artifacts = Artifacts(
            self.folder.path, run.setup.title, run.setup.data, display, test=run.setup.test
        )
        names = self.setup.config.trackers if self.setup.world.writes else ()
        self.trackers = Trackers(names, self.folder.path, display.say)

    def close(self) -> None:
        """Ends the tracked runs, finished or not."""
        self.trackers.close()

    def record(self, event: Event) -> None:
        """Writes what the event stands for.

        Raises:
            RunError: The folder, its first checkpoint or the final weights cannot be written.
        """
        match event:
            case EpochProgress():
                self.display.progress(event)
            case Message():
                self.display.say(event.line)
            case Started():
                self._start(event)
            case CheckpointDue(first=True):
                self.setup.world.on_rank0(lambda: self._save_first(event.stepper, event.state))
            case CheckpointDue():
                self.setup.world.on_rank0(lambda: self._save(event.stepper, event.state))
            case EpochEnd():
                self._end_epoch(event)
            case TrainingEnd():
                self.setup.world.on_rank0(self._write_best)
            case Finished():
                self.setup.world.on_rank0(lambda: self._finalize(event))
            case _:
                pass

    def _start(self, event: Started) -> None:
        """Makes the folder of a new run; cuts the metrics of a resumed one at its checkpoint."""
        self.epochs = list(event.epochs)
        self.display.starts(self.epochs[-1].epoch if self.epochs else 0.0)
        self._name_left_out()
        if not event.resumed:
            self.setup.world.on_rank0(lambda: self.folder.begin(settings_of(self.run)))
        elif self.setup.world.writes:
            self.folder.keep(self.epochs)
        self.setup.world.on_rank0(  # the others wait, as a server may be slow
            lambda: self.trackers.start(settings_of(self.run), self.epochs, resumed=event.resumed)
        )

    def _name_left_out(self) -> None:
        """Prints which images have been skipped since the last time."""
        for part in (self.run.training_images, self.run.validation_images):
            for why in part.store.skipped.values():
                if why not in self.left_out:
                    self.left_out.append(why)
                    self.display.say(f"left out: {why}")

    def _save_first(self, stepper: Stepper, state: TrainState) -> None:
        path = self.folder.path
        try:
            self._checkpoint(stepper, state)
        except OSError as error:
            raise DiskError(
                f"{path}: the first checkpoint cannot be written ({error.strerror or error}). "
                f"Expected room for three of them. Make some and go on by {RESUME} {path}, or "
                "pass another --out."
            ) from error
        if isinstance(self.run.training, Loader):
            self.artifacts.sheet(self.run.training, order_of(self.run.recipe), self.run.recipe)

    def _save(self, stepper: Stepper, state: TrainState) -> None:
        try:
            self._checkpoint(stepper, state)
        except OSError as error:
            self.display.say(
                f"no checkpoint after step {state.step} ({error.strerror or error}); the one "
                "before is whole. Free some room on the disk."
            )

    def _checkpoint(self, stepper: Stepper, state: TrainState) -> None:
        if self.best is not None:
            save(self.best, self.folder.path / BEST)
            self.best = None
        self.folder.flush()
        save_checkpoint(self.folder.checkpoints, stepper.state(), state, self.folder.identity)

    def _end_epoch(self, event: EpochEnd) -> None:
        """Writes the metrics and the curves."""
        if not self.epochs and (ways := summary()):
            self.display.say(f"fp32 convolutions, by the fastest way of each shape: {ways}")
        self.epochs.append(event.epoch)
        self._name_left_out()
        if event.best is not None:
            card = self._card(event.evaluation, event.epoch.seconds)
            self.best_fit = _fit(self.run, event.evaluation)
            event.best.card = _fitted(self.run, card, event.evaluation, self.best_fit)
            self.best = event.best
        if not self.setup.world.writes:
            return
        self.display.epoch(event.epoch)
        self.artifacts.attempt(lambda: self.folder.epoch(event.epoch))
        self.trackers.epoch(event.epoch)
        self.artifacts.curves_in_training(self.epochs, event.evaluation)

    def _write_best(self) -> None:
        with _explained(self.folder.path):
            if self.best is not None:
                save(self.best, self.folder.path / BEST)
                self.best = None

    def _finalize(self, event: Finished) -> None:
        """Writes plots, and last the weights, which make the folder a finished run."""
        self.artifacts.mistakes(event.evaluation, self.run.validation_images)
        tested = event.test is not None  # the network holds the weights that were tested
        with (
            _explained(self.folder.path),
            nullcontext() if tested else event.stepper.averaged(),
        ):
            network, fit = self.setup.network, self.best_fit
            if tested:  # the weights are those of best.safetensors, and so is what was fitted
                network.card = replace(
                    self._card(event.evaluation, event.seconds, event.test),
                    calibration=network.card.calibration,
                    multi_label=network.card.multi_label,
                )
            else:
                card = self._card(event.evaluation, event.seconds)
                fit = _fit(self.run, event.evaluation)
                network.card = _fitted(self.run, card, event.evaluation, fit)
            self.folder.weights(network)
            self.artifacts.examples(event.evaluation, self.run.validation_images, network)
        self.artifacts.reliability(fit)
        for line in fitted_lines(network.card, chooses=self.setup.chooses):
            self.display.say(line)
        self.artifacts.curves(self.epochs, event.evaluation)
        self.trackers.finish(network.card.metrics)

    def _card(
        self, measured: AnyEvaluation, seconds: float, tested: AnyEvaluation | None = None
    ) -> ModelCard:
        """Returns what a saved network says of itself."""
        data, run = self.setup.data, self.run
        metrics = {
            **{f"held_out_{name}": value for name, value in _numbers(measured).items()},
            "held_out_images": measured.images,
            "held_out_images_in_set": len(data.val),
            "seconds": seconds,
            "epochs": self.epochs[-1].epoch if self.epochs else 0,
            "data": data.spec,
            "fingerprint": data.fingerprint,
            "data_fingerprint": (self.setup.test or data).fingerprint,  # before a part was held out
        }
        if self.setup.config.fold is not None:
            metrics["fold"] = self.setup.config.fold
        if self.setup.config.group_by is not None:
            metrics["group_by"] = self.setup.config.group_by
        if self.left_out:
            metrics["images_left_out"] = len(self.left_out)
        reading = run.training_images.reading
        if reading is not None and not reading.done:
            metrics["training_images_read"] = reading.count
        if tested is not None:
            assert self.setup.test is not None
            several = isinstance(tested, LabelEvaluation)
            names = ("mAP",) if several else ("accuracy", *_OF_CLASSES)
            found = _numbers(tested)
            metrics |= {f"test_{name}": found[name] for name in names}
            metrics["test_images"] = tested.images
            metrics["test_images_in_set"] = len(self.setup.test.val)
        return ModelCard(classes=data.classes, preprocessing=run.rule, metrics=metrics)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns a failure to write the weights into an error that says how to go on."""
    try:
        yield
    except OSError as error:
        raise DiskError(
            f"{path}: the trained weights cannot be written ({error.strerror or error}). Expected "
            f"room on the disk. Make some and go on by {RESUME} {path}: the checkpoints are whole."
        ) from error


def _fitted(run: Prepared, card: ModelCard, measured: AnyEvaluation, fit: Fit | None) -> ModelCard:
    """Returns the card with what the validation images give: temperature or thresholds."""
    if isinstance(measured, LabelEvaluation):
        return replace(card, multi_label=_thresholds(run, measured))
    return replace(card, calibration=None if fit is None else fit.calibration)


def _numbers(measured: AnyEvaluation) -> dict[str, float | list[float]]:
    """Returns what the card of a network says of an evaluation; intervals have 95 %."""
    if isinstance(measured, LabelEvaluation):
        return {
            "mAP": measured.mean_ap,
            "micro_f1": measured.micro_f1,  # at thresholds of 0.5, like the other two
            "macro_f1": measured.macro_f1,
            "exact_match": measured.exact_match,
            "loss": measured.loss,
        }
    numbers: dict[str, float | list[float]] = {
        "accuracy": measured.top1,
        "top5": measured.top5,
        "balanced": measured.balanced,
        "macro_f1": measured.macro_f1,
        "loss": measured.loss,
    }
    named = measured.intervals()._asdict()
    return numbers | {f"{name}_interval": list(named[name]) for name in ("balanced", "macro_f1")}


def fitted_lines(card: ModelCard, *, chooses: bool) -> list[str]:
    """Returns what is printed about the temperature or the thresholds of a trained network.

    Args:
        card: Of the network.
        chooses: Whether the validation images may choose anything.
    """
    fitted, several = card.calibration, card.multi_label
    if fitted is not None:
        return [
            f"calibrated on {fitted.images:,} validation images: temperature "
            f"{fitted.temperature:.3f}, ECE {fitted.ece_before:.2%} before and "
            f"{fitted.ece_after:.2%} after"
        ]
    if several is None:
        return []
    left = sum(value == DEFAULT for value in several.thresholds)
    total = len(several.thresholds)
    if not chooses:
        return [
            f"the threshold of all {total:,} labels is {DEFAULT:g}, since the data's own "
            "validation set measures the result; with --hold-out 0.1 thresholds are chosen on "
            "held-out training images"
        ]
    if not several.images:
        return [
            f"the threshold of all {total:,} labels is {DEFAULT:g}, since fewer than "
            f"{LEAST_POSITIVES} validation images have the label or lack it"
        ]
    rest = f"; {left:,} have too few images, or the best is {DEFAULT:g}" if left else ""
    return [
        f"thresholds of {total - left:,} of {total:,} labels chosen on {several.images:,} "
        f"validation images for the highest F1{rest}"
    ]


def _thresholds(run: Prepared, measured: LabelEvaluation) -> MultiLabel:
    """Returns the thresholds that validation images give; 0.5 if they may be a test set."""
    if not run.setup.chooses or not np.isfinite(measured.logits).all():
        return measured.several
    fingerprint = run.setup.data.fingerprint
    return choose_thresholds(measured.labels, measured.logits, fingerprint=fingerprint)


def _fit(run: Prepared, measured: AnyEvaluation) -> Fit | None:
    """Returns the calibration that validation images give; None if they cannot give one.

    They cannot if they may be a test set, if there are too few of them, or if training failed.
    """
    if isinstance(measured, LabelEvaluation):
        return None
    kept, unknown = measured.kept, run.setup.config.unknown
    if kept is None or len(kept.rows) < least_images(unknown):
        return None
    if not np.isfinite(kept.logits).all():
        return None
    return calibrate(
        kept.logits,
        measured.labels[kept.rows],
        unknown=unknown,
        fingerprint=run.setup.data.fingerprint,
    )
