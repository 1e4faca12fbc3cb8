"""A run carried out: pictures, steps, evaluations, files."""

from __future__ import annotations

import copy
import time
from contextlib import closing, nullcontext
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from forebear.data.feature_loader import FeatureLoader
from forebear.data.loader import Loader
from forebear.data.reading import BackgroundReader, Reading
from forebear.data.strata import stratified
from forebear.errors import RunError, StopError
from forebear.hardware import processor
from forebear.network.accelerate import accelerate
from forebear.network.model_card import ModelCard
from forebear.network.network import Network
from forebear.network.plan.cost import smallest_side
from forebear.tasks.evaluate import Evaluation, InOrder, combined, evaluate, sorted_by
from forebear.tasks.machine.allocator import keep_memory
from forebear.tasks.machine.device import Precision, algorithms, device_name, has_bf16
from forebear.tasks.machine.thread_tuning import ThreadTuner
from forebear.tasks.runs.folder import BEST
from forebear.tasks.runs.metrics import Epoch
from forebear.tasks.runs.plots import can_draw
from forebear.tasks.runs.tensorboard import Scalars
from forebear.tasks.train.artifacts import Artifacts
from forebear.tasks.train.budget.adapt import AdaptiveSize
from forebear.tasks.train.budget.compile_mode import compiling, mode_of
from forebear.tasks.train.budget.deadlines import Deadlines
from forebear.tasks.train.budget.evaluation import UntilTime, seconds_of_image
from forebear.tasks.train.budget.plan import EVALUATION, SHORT, evaluated, plan_budget
from forebear.tasks.train.budget.progress import FINISH, Progress
from forebear.tasks.train.budget.timing import Operations
from forebear.tasks.train.input_pipeline import (
    EVALUATED,
    Decoding,
    Limit,
    batches,
    features,
    measured,
    opened,
    order_of,
)
from forebear.tasks.train.job import PreparedRun, TrainResult, settings_of
from forebear.tasks.train.loop import Loop, LoopConfig
from forebear.tasks.train.out_of_memory import explain_evaluation, explain_out_of_memory
from forebear.tasks.train.progress_bar import ProgressBar
from forebear.tasks.train.recipe import Recipe
from forebear.tasks.train.resolve import asked
from forebear.tasks.train.resume.checkpoint import load_checkpoint, save_checkpoint
from forebear.tasks.train.signals import StopSignals
from forebear.tasks.train.state import EpochProgress, TrainState
from forebear.tasks.train.step import Mode
from forebear.tasks.train.stochastic_depth import apply_stochastic_depth
from forebear.weights.native_format import load_file

_GO_ON = "forebear train --resume"
END = 0.15  # share of a budget that the end may keep back, however slow the start was


def run_training(job: PreparedRun) -> TrainResult:
    """Trains to the end, and leaves a finished folder.

    Raises:
        StopError: a signal came; the state is saved.
        ForebearError: pictures that cannot be read, a folder in the way, a loss not finite.
    """
    request = job.request
    if request.keep_memory:
        keep_memory()
    epochs = 0 if request.budget else job.recipe.epochs
    with (
        algorithms(job.device, deterministic=request.deterministic),
        closing(ThreadTuner(job.device, request.threads, careful=bool(request.budget))) as threads,
        ProgressBar(epochs, request.budget or 0.0, shows=job.world.writes) as display,
        closing(job.folder),
        StopSignals(says=job.world.writes) as stop,
    ):
        try:
            return Trainer(job, threads, display, stop).run_training()
        except StopError as error:
            there = stop.waits or job.resumes
            then = f"To go on: {_GO_ON} {job.folder.path}" if there else "No run was begun."
            raise StopError(f"{error} {then}", error.number) from None


class Trainer:
    """The parts of a run at work; the loop's hooks."""

    def __init__(
        self, job: PreparedRun, threads: ThreadTuner, display: ProgressBar, stop: StopSignals
    ) -> None:
        self.job, self.display, self.stop = job, display, stop
        self.recipe, self.network = job.recipe, job.network
        self.epochs = list(job.epochs)
        workers = job.request.workers
        if workers is None and job.world.size > 1:
            workers = job.world.processors
        self.decoding = Decoding(bad=job.request.bad, workers=workers)
        told = job.request.tensorboard and job.world.writes
        self.scalars = Scalars(job.folder.path) if told else None
        self.pages = Artifacts(job, display)
        self.best: Network | None = None  # not yet written
        self.clocked = Deadlines.of(job) if job.request.budget else None
        self._announce()
        self.training, self.held_out = self._batches()
        self.test_seconds = 0.0  # kept back for the test
        self.left_out: list[str] = []  # pictures that cannot be decoded, and why
        self._name_left_out()
        self.rule = self.held_out.rule
        self.network.to(job.device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        with explain_out_of_memory(self.network, self.recipe, job.device):
            self.mode = self._mode()
        if self.mode != "off":
            threads.chooses = False  # another count of threads would be compiled for anew
            display.say(f"torch.compile: {self.mode}; the first step takes a minute or two")
        elif job.device.type == "cpu":
            display.say(accelerate(self.network))
        if self.recipe.stochastic_depth:
            apply_stochastic_depth(self.network, self.recipe.stochastic_depth)
        self.test_images = 0 if job.test is None else len(job.test.val)
        if self.clocked is not None:
            self._limit_evaluation(self.clocked)
        self.shown: Loader | FeatureLoader = self.held_out
        self.learned: Loader | FeatureLoader = self.training
        if self.recipe.head_only:
            self.learned, self.shown = (
                features(self.network, part, self.recipe) for part in (self.training, self.held_out)
            )
        self.beside = self._beside()
        self.course = self._course()
        setting = LoopConfig(
            training=self.learned,
            classes=len(job.data.classes),
            order=order_of(self.recipe),
            recipe=self.recipe,
            course=self.course,
            threads=threads,
            every=job.request.every,
            world=job.world,
            mode=self.mode,
            sizes=self._sizes(),
        )
        with explain_out_of_memory(self.network, self.recipe, job.device):
            self.loop = Loop(self.network, setting)

    def run_training(self) -> TrainResult:
        """Begins or goes on, trains to the end and writes what is left."""
        try:
            return self._run()
        finally:
            if self.beside is not None:
                self.beside.stop()

    def _run(self) -> TrainResult:
        self.stop.wait()
        if self.beside is not None:
            self.beside.start()
        started = time.perf_counter()
        self._begin()
        if self.clocked is not None:  # the end writes and draws more, and leaves what was loaded
            end = 0.5 + 2 * (time.perf_counter() - started) + self.job.imports
            most = max(FINISH, END * self.clocked.left)
            self.course.finish = min(max(FINISH, end), most) + self.test_seconds
        best = max((epoch.val_accuracy for epoch in self.epochs), default=-1.0)
        last = None
        with (
            compiling(self.mode),
            explain_out_of_memory(self.network, self.recipe, self.job.device),
        ):
            for epoch, last in self.loop.run(self, self.stop):
                self.epochs.append(epoch)
                if self.job.world.writes and self.job.chooses and epoch.val_accuracy > best:
                    best = epoch.val_accuracy
                    self._keep(last)
                self._record_epoch(epoch)
        if last is None:  # all was done before the break
            last = self.evaluate()
        tested = self._finish(last)
        return TrainResult(held_out=last, test=tested, folder=self.job.folder.path)

    def _announce(self) -> None:
        job, data, recipe = self.job, self.job.data, self.recipe
        self.display.say(
            f"{job.title}: {len(data.train):,} pictures to train on, "
            f"{len(data.val):,} held out ({data.split}), {len(data.classes)} classes, "
            f"{recipe.size} x {recipe.size} pixels, {recipe.precision} on {job.device}"
        )
        for note in job.notes:
            self.display.say(note)
        if recipe.precision == "bf16" and not has_bf16(job.device):
            self.display.say(
                f"{device_name(job.device)} has no bfloat16 instructions: fp32 is many times faster"
            )
        if not can_draw():
            self.display.say("no curves.png: run pip install 'forebear[plots]' for pictures")

    def _batches(self) -> tuple[Loader, Loader]:
        job, clocked = self.job, self.clocked
        limit = None
        if clocked is not None:
            least = 2 if self.recipe.head_only else self.recipe.batch
            limit = Limit(until=0.0 if self.recipe.head_only else clocked.read, least=least)
        training, held_out = batches(
            job.data,
            self.recipe,
            job.device,
            colours=job.colours,
            decoding=self.decoding,
            world=job.world,
            progress=self.display.decoding,
            limit=limit,
        )
        reading = training.reading
        if reading is not None and not reading.done and not self.recipe.head_only:
            self.display.say(
                f"reading {reading.count:,} of {len(job.data.train):,} images first, the rest "
                "while training"
            )
        return training, held_out

    def _limit_evaluation(self, clocked: Deadlines) -> None:
        """Chooses the held-out images that each evaluation takes, so that the budget is kept."""
        job, data = self.job, self.job.data
        image = seconds_of_image(self.network, self.held_out, self.recipe.precision, clocked.ready)
        image = max(job.world.all_reduce_max([image])) / job.world.size
        count, every = len(data.val), len(data.val) + self.test_images
        share = count / max(every, 1)
        part, test = job.world.on_rank0(
            lambda: (
                evaluated(count, image, share * clocked.left),
                evaluated(self.test_images, image, (1 - share) * clocked.left),
            )
        )
        self.evaluating, self.test_images, self.test_seconds = part, test.images, test.seconds
        order = self.held_out.shown
        assert order is not None
        self.held_out = replace(self.held_out, shown=order[: part.images])
        if part.images < count:
            self.display.say(
                f"evaluating {part.images:,} of {count:,} held-out images, a fixed random part "
                f"with its share of each class: all of them would take about {count * image:.0f} s "
                f"of the {clocked.budget:g}"
            )
        if self.recipe.head_only:  # all features are computed before the training
            ways = 2 if self.recipe.mirror != "none" else 1
            most = job.world.on_rank0(
                lambda: evaluated(len(data.train), ways * image, clocked.left)
            )
            chosen = stratified(data.train.labels, self.recipe.seed)[: max(most.images, 2)]
            self.training = replace(self.training, reading=None, shown=np.sort(chosen))
            if len(chosen) < len(data.train):
                self.display.say(
                    f"training on {len(chosen):,} of {len(data.train):,} images: the features of "
                    f"all of them would take more than {EVALUATION:.0%} of the budget"
                )

    def _beside(self) -> BackgroundReader | None:
        """What will read, beside the training, the images that were not read before it."""
        reading = self.training.reading
        if self.clocked is None or reading is None:
            return None
        shown = self.held_out.shown
        assert shown is not None
        parts = [reading, Reading(self.held_out.store, shown)]
        workers = self.decoding.workers
        cores = processor().cores if workers is None else workers
        return BackgroundReader(parts, cores, keeps=self.job.world.writes)

    def _name_left_out(self) -> None:
        """Says which pictures have been skipped since the last time."""
        for part in (self.training, self.held_out):
            for why in part.store.skipped.values():
                if why not in self.left_out:
                    self.left_out.append(why)
                    self.display.say(f"left out: {why}")

    def _course(self) -> Progress:
        """The length of the run; under a budget the recipe is planned for it first."""
        request, recipe, clocked = self.job.request, self.recipe, self.clocked
        if clocked is None:
            begun = request.started or time.perf_counter()
            return Progress(
                steps=recipe.iterations or recipe.epochs * len(self.learned), begun=begun
            )
        course = Progress(budget=clocked.budget, begun=clocked.started)
        course.evaluation = 0.0 if recipe.head_only else self.evaluating.seconds
        course.finish += self.test_seconds
        if self.job.resumes:
            return course
        left = clocked.budget - course.spent - course.evaluation - course.finish
        if left <= 0 and clocked.budget <= SHORT:
            raise RunError(
                f"--budget {clocked.budget:g} s: {course.spent:.1f} s were gone before the first "
                f"step, and the end takes about {course.evaluation + course.finish:.1f} s more. "
                "Expected time for some steps. Raise the budget."
            )
        self.recipe = self._planned(max(left, 1.0))
        grows = f", growing from {self.recipe.size_from} pixels" if self.recipe.size_from else ""
        self.display.say(
            f"a budget of {clocked.budget:g} s: about {self.recipe.epochs} epochs{grows}"
        )
        return course

    def _sizes(self) -> AdaptiveSize | None:
        """Under a budget, what makes photographs smaller if steps turn out to be too long.

        A size that the caller or the recipe has fixed stays; so do compiled steps.
        """
        job, recipe = self.job, self.recipe
        fixed = job.request.size is not None or job.request.weights is not None or job.resumes
        free = not fixed and not asked(job.request, job.data, norms=True).size
        if self.clocked is None or not free or recipe.crop != "resized" or self.mode != "off":
            return None
        return AdaptiveSize(
            operations=Operations(plan=self.network.plan, recipe=recipe),
            batch=self._share().batch,
            least=smallest_side(self.network.plan),
            course=self.course,
        )

    def _mode(self) -> Mode:
        """How the operations are run; a resumed run's as it began."""
        job, recipe = self.job, self.recipe
        share = self._share()
        steps = recipe.iterations or recipe.epochs * len(self.training)

        def choose() -> Mode:
            return mode_of(
                job.request.compile,
                share,
                self.network,
                job.device,
                alone=job.world.size == 1,
                length=lambda seconds: job.request.budget or steps * seconds,
            )

        mode = job.world.on_rank0(choose)
        self.job = replace(job, request=replace(job.request, compile=mode))
        return mode

    def _share(self) -> Recipe:
        """The recipe with the batch of one process."""
        recipe = self.recipe
        return replace(recipe, batch=max(2, -(-recipe.batch // self.job.world.size)))

    def _planned(self, left: float) -> Recipe:
        """The recipe for so many seconds, by the steps of one process' share."""
        job, recipe, times = self.job, self.recipe, self.job.times
        assert times is not None
        return job.world.on_rank0(
            lambda: replace(
                plan_budget(self._share(), times, left, len(self.learned)), batch=recipe.batch
            )
        )

    def _begin(self) -> None:
        job, folder = self.job, self.job.folder
        if not job.resumes:
            job.world.on_rank0(self._make_folder)
            return
        state, record, damaged = job.world.on_rank0(self._restore)
        for line in damaged:
            self.display.say(line)
        try:
            self.loop.load(state, record)
        except (ValueError, KeyError, RuntimeError) as error:
            raise RunError(
                f"{folder.checkpoints}: of another run ({error}). Expected that of the settings "
                "beside it. Train again with --replace."
            ) from error
        if self.clocked is None:  # else it is counted from the start already
            self.course.begun -= record.seconds
        told = record.step - len(record.losses)  # steps up to the last evaluation
        self.epochs = [epoch for epoch in self.epochs if epoch.step <= told]
        if job.world.writes:
            folder.keep(self.epochs)
        self.display.say(f"going on after step {record.step:,}")

    def _make_folder(self) -> None:
        folder = self.job.folder
        evaluated = len(self.held_out.places)
        folder.begin(settings_of(self.job, self.recipe, self.rule, evaluated=evaluated))
        try:
            self._keep_all(self.loop.state)
        except OSError as error:
            raise RunError(
                f"{folder.path}: the first checkpoint cannot be written "
                f"({error.strerror or error}). Expected room for three of them. Make some and go "
                f"on by {_GO_ON} {folder.path}, or pass another --out."
            ) from error
        if isinstance(self.learned, Loader):
            self.pages.sheet(self.learned, self.loop.setting.order, self.recipe)

    def _restore(self) -> tuple[dict[str, Any], TrainState, list[str]]:
        """The newest checkpoint; from here on no other run may use the folder."""
        self.job.folder.hold()
        return load_checkpoint(self.job.folder.checkpoints)

    def glance(self, glance: EpochProgress) -> None:
        """Shows where the training is."""
        self.display.glance(glance)

    def evaluate(self) -> Evaluation:
        """Measures the network, or its average, as it is now."""
        stepper = self.loop.stepper
        if self.beside is not None and self.course.over(self.loop.state.step):
            self.beside.stop()
        with stepper.averaged():
            return self._measured(stepper.bare, self.shown)

    def _measured(
        self, model: nn.Module, batches: Loader | FeatureLoader, *, tests: bool = False
    ) -> Evaluation:
        """Evaluates a network; under a budget only until the end of the run has to begin."""
        half: Precision = "bf16" if self.recipe.precision == "bf16" else "fp32"
        skipped = {} if isinstance(batches, FeatureLoader) else batches.store.skipped
        alone = self.job.world.size == 1  # else all processes must measure to the end
        watched: InOrder = self.stop.watch(batches) if alone else batches
        if alone and self.clocked is not None:
            kept_back = self.course.finish - (self.test_seconds if tests else 0.0)
            watched = UntilTime(watched, self.course.begun + self.course.budget - kept_back)
        while True:
            with (
                explain_evaluation(model, batches, half, least=EVALUATED)
                if isinstance(batches, Loader)
                else nullcontext()
            ):
                part = evaluate(model, watched, self.job.data.classes, precision=half)
            if not self.job.world.united(skipped):  # else the shares were dealt out otherwise
                break
        whole = combined(self.job.world.gather(part))
        if isinstance(batches, FeatureLoader):
            return whole
        places = batches.places
        if whole.images < len(places):
            self.display.say(
                f"the evaluation ended after {whole.images:,} of {len(places):,} images, as the "
                "budget is nearly used up"
            )
        return sorted_by(whole, places[: whole.images])

    def save(self, state: TrainState) -> None:
        """Keeps all that a resumed run needs; no process goes on before it is on the disk."""
        self.job.world.on_rank0(lambda: self._write(state))

    def _write(self, state: TrainState) -> None:
        try:
            self._keep_all(state)
        except OSError as error:
            self.display.say(
                f"no checkpoint after step {state.step} ({error.strerror or error}); the one "
                "before is whole. Free some room on the disk."
            )

    def _keep_all(self, state: TrainState) -> None:
        folder = self.job.folder
        if self.best is not None:
            folder.best(self.best)
            self.best = None
        folder.flush()
        save_checkpoint(folder.checkpoints, self.loop.stepper.state(), state)

    def _record_epoch(self, epoch: Epoch) -> None:
        """Writes down what an epoch gave; a full disk costs a line, not the run."""
        self._name_left_out()
        if not self.job.world.writes:
            return
        self.display.epoch(epoch)
        self.pages.attempt(lambda: self.job.folder.epoch(epoch))
        if self.scalars is not None:
            self.pages.attempt(partial(self.scalars.epoch, asdict(epoch)))
        taken = self.pages.meanwhile(self.epochs)
        if taken:
            # as many drawings as these, and the weights
            self.course.finish = max(self.course.finish, 3 * taken + self.test_seconds)

    def _keep(self, measured: Evaluation) -> None:
        """Keeps a copy of the network that did best so far, for the next saving to write."""
        with self.loop.stepper.averaged():
            self.best = copy.deepcopy(self.network)
        self.best.card = self._card(measured)

    def _finish(self, last: Evaluation) -> Evaluation | None:
        """Tests what was chosen, then pictures, and last the weights: a finished run."""
        tested = self._test() if self.job.test is not None else None
        self.job.world.on_rank0(lambda: self._finalize(last, tested))
        return tested

    def _finalize(self, last: Evaluation, tested: Evaluation | None) -> None:
        folder = self.job.folder
        self.pages.mistakes(last, self.held_out)
        chosen = nullcontext() if tested is not None else self.loop.stepper.averaged()
        try:
            if self.best is not None:
                folder.best(self.best)
            with chosen:
                self.network.card = self._card(last, tested)
                folder.weights(self.network)
        except OSError as error:
            raise RunError(
                f"{folder.path}: the trained weights cannot be written "
                f"({error.strerror or error}). Expected room on the disk. Make some and go on by "
                f"{_GO_ON} {folder.path}: the checkpoints are whole."
            ) from error
        self.pages.curves(self.epochs)

    def _test(self) -> Evaluation:
        """Puts the weights that did best into the network, and tests them, once."""
        job = self.job
        assert job.test is not None
        if job.world.writes:
            best = self.best or load_file(job.folder.path / BEST).to(job.device)
            self.network.load_state_dict(best.state_dict())
        job.world.broadcast([*self.network.parameters(), *self.network.buffers()])
        if self.clocked is not None:
            test = opened(job.test.val, self.rule, self.training, decoding=self.decoding, until=0.0)
            assert test.shown is not None
            test = replace(test, shown=test.shown[: self.test_images])
        else:
            test = measured(
                job.test.val, self.rule, self.training, decoding=self.decoding, world=job.world
            )
        return self._measured(self.network, test, tests=True)

    def _card(self, measured: Evaluation, tested: Evaluation | None = None) -> ModelCard:
        """What the saved network says of itself."""
        job = self.job
        metrics = {
            "held_out_accuracy": measured.top1,
            "held_out_top5": measured.top5,
            "held_out_loss": measured.loss,
            "held_out_images": measured.images,
            "held_out_images_in_set": len(job.data.val),
            "seconds": self.course.spent,
            "epochs": self.epochs[-1].epoch if self.epochs else 0,
            "data": job.data.spec,
            "fingerprint": job.data.fingerprint,
        }
        if self.left_out:
            metrics["images_left_out"] = len(self.left_out)
        reading = self.training.reading
        if reading is not None and not reading.done:
            metrics["training_images_read"] = reading.count
        if tested is not None:
            metrics |= {"test_accuracy": tested.top1, "test_images": tested.images}
            assert job.test is not None
            metrics["test_images_in_set"] = len(job.test.val)
        return ModelCard(classes=job.data.classes, preprocessing=self.rule, metrics=metrics)
