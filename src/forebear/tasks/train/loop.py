"""The training loop: steps, epochs, and what is measured and saved on the way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from forebear.data.augment.mixup import mix
from forebear.data.feature_loader import FeatureLoader
from forebear.data.loader import Loader, Order, RawBatch
from forebear.errors import RunError, StopError
from forebear.network.network import Network
from forebear.tasks.evaluate import Evaluation
from forebear.tasks.machine.device import peak_memory
from forebear.tasks.machine.distributed import ALONE, World
from forebear.tasks.machine.thread_tuning import ThreadTuner
from forebear.tasks.runs.metrics import Epoch
from forebear.tasks.train.budget.progress import Progress
from forebear.tasks.train.loss import soft
from forebear.tasks.train.optim.lr_schedule import rate, side
from forebear.tasks.train.recipe import Recipe
from forebear.tasks.train.signals import StopSignals
from forebear.tasks.train.state import EpochProgress, TrainState
from forebear.tasks.train.step import Mode, Stepper

PARTS = 20  # of an epoch, for the curves
GLANCE = 0.25  # seconds between two looks at the loss: each waits for the device
SAVING = 300.0  # seconds between two savings within an epoch
SAVING_SHARE = 20.0  # times what saving takes, at least, between two savings at epochs' ends


class Hooks(Protocol):
    """What the loop asks of its caller."""

    def glance(self, glance: EpochProgress) -> None:
        """Shows where the training is."""

    def evaluate(self) -> Evaluation:
        """Measures the network, or its average, as it is now."""

    def save(self, state: TrainState) -> None:
        """Keeps all that a resumed run needs; one process does."""


class ImageSizes(Protocol):
    """Chooses the size of a step's images by the seconds of those before."""

    def size(self, wanted: int) -> int:
        """The size to take, in pixels; the wanted one or a smaller one."""

    def stepped(self, size: int, taken: float) -> None:
        """Takes in the seconds of a step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopConfig:
    """What a loop works with."""

    training: Loader | FeatureLoader
    classes: int
    order: Order
    recipe: Recipe  # without anything left to the data
    course: Progress
    threads: ThreadTuner
    every: int = 0  # steps between two savings within an epoch; 0: by the clock
    world: World = ALONE
    mode: Mode = "off"
    sizes: ImageSizes | None = None  # makes images smaller where steps are too long for a budget


class Loop:
    """A network on its way through a run; every step can be the first of a resumed one."""

    def __init__(self, network: Network, setting: LoopConfig) -> None:
        """Moves nothing yet; where only the head learns, the batches hold its features."""
        self.network, self.setting = network, setting
        recipe, device = setting.recipe, setting.training.device
        model = network.get_submodule("logits") if recipe.head_only else network
        self.stepper = Stepper(model, network, recipe, device, setting.world, mode=setting.mode)
        self.state = TrainState()
        self._fresh: list[Tensor] = []  # [2] a step: loss and hits, still on the device
        self._seen: list[list[float]] = []  # the same of this process, not yet summed over all
        self._looked = self._saved = self._began = 0.0  # time.perf_counter() of the last ...
        self._saving = 0.0  # seconds that the last saving took
        self._ended = False  # whether the epoch under way has had all its steps

    def load(self, state: dict[str, Any], record: TrainState) -> None:
        """Takes up a run where a checkpoint has it.

        Raises:
            ValueError, KeyError, RuntimeError: the state is of another network or recipe.
        """
        self.stepper.load(state)
        self.stepper.count(skipped=record.skipped, in_row=record.in_row)
        self.state = record

    def run(self, hooks: Hooks, stop: StopSignals) -> Iterator[tuple[Epoch, Evaluation]]:
        """Trains to the end of the course, and gives each epoch with the evaluation after it.

        Raises:
            RunError: the loss is no longer finite, and the message says at which step.
            StopError: the run was asked to end, and its state is saved.
        """
        state, course = self.state, self.setting.course
        self._saved = time.perf_counter()
        over = self._agree(stop)[1]
        while not over or state.losses:  # a state can be saved between a step and its evaluation
            if not over:
                over = self._epoch(hooks, stop)
            if not state.losses:  # a budget ended right after an evaluation
                continue
            if not over and not self._agree(stop)[2]:
                self._next_epoch()
                continue
            started = time.perf_counter()
            self.stepper.settle()
            try:
                evaluation = hooks.evaluate()
            except StopError:
                self._save(hooks)
                raise
            course.measured(time.perf_counter() - started)
            yield self._make_epoch(evaluation), evaluation
            state.losses, state.hits, state.counts, state.lrs = [], [], [], []
            state.trained = 0.0
            self._next_epoch()
            if over or self._due(time.perf_counter(), ended=True):
                self._save(hooks)

    def _agree(self, stop: StopSignals) -> tuple[int, bool, bool, float]:
        """What all processes do next: the signal that came, over, measures, progress."""
        course, step = self.setting.course, self.state.step
        mine = [float(stop.number), course.over(step), course.measures(), course.progress(step)]
        number, over, measures, progress = self.setting.world.all_reduce_max(mine)
        return int(number), bool(over), bool(measures), progress

    def _epoch(self, hooks: Hooks, stop: StopSignals) -> bool:
        """Trains from where the epoch stands to its end; whether the run is over."""
        state, training = self.state, self.setting.training
        self._mode(self._agree(stop)[3])
        self._began, images = time.perf_counter(), 0
        over = self._ended = False
        for draft in self._drafts():
            number, over, _, progress = self._agree(stop)
            if number:
                self._pause()
                self._save(hooks)
                raise StopError(f"stopped by a signal after step {state.step}.", number)
            if over:
                break
            self._step(draft, progress)
            if training.device.type == "cpu":
                self._check(hooks)
            images += draft.total
            now = time.perf_counter()
            if now - self._looked > GLANCE:
                self._looked = now
                self._glance(hooks, images, progress)
            if self._due(now):
                self._pause()
                self._save(hooks)
        else:
            self._ended = True
        self._pause()
        self._check(hooks)
        return over or self._agree(stop)[1]

    def _drafts(self) -> Iterator[RawBatch]:
        """The steps that the epoch still has, drawn from the images that all processes have read.

        Raises:
            DataError: an image that is read beside the training cannot be decoded.
        """
        training, order, state = self.setting.training, self.setting.order, self.state
        if isinstance(training, FeatureLoader) or training.reading is None:
            return training.drafts(order, state.epoch, state.place)
        mine = training.reading.available()
        count = -int(self.setting.world.all_reduce_max([-float(len(mine))])[0])
        among = None if count == len(training.store) else mine[:count]
        return training.drafts(order, state.epoch, state.place, among)

    def _next_epoch(self) -> None:
        """Goes from a finished epoch to the next; only once it is evaluated, or needs not be."""
        if self._ended or self.state.place == len(self.setting.training):
            self._ended = False
            self.state.epoch, self.state.place = self.state.epoch + 1, 0

    def _step(self, draft: RawBatch, progress: float) -> None:
        recipe, state, setting = self.setting.recipe, self.state, self.setting
        size = side(recipe, progress)
        if setting.sizes is not None:
            size = setting.sizes.size(size)
        share = self._rate(progress)
        started = time.perf_counter()
        setting.threads.amount = max(len(draft.samples), 1) * size * size
        total = self._total(draft)
        with setting.threads:
            images, labels = setting.training.view(draft, setting.order, state.epoch, size)
            targets = labels
            if recipe.mixup or recipe.cutmix:
                key = (recipe.seed, state.epoch, draft.step)
                targets = soft(labels, setting.classes)
                images, targets = mix(images, targets, recipe.mixup, recipe.cutmix, key)
            if recipe.stochastic_depth or self.stepper.drops:
                torch.manual_seed((recipe.seed << 32) + (setting.world.rank << 24) + state.step)
            seen = self.stepper(images, targets, labels, total=total, share=share)
        self._fresh.append(seen)
        state.counts.append(total)
        state.lrs.append(recipe.lr * share)
        state.step, state.place = state.step + 1, state.place + 1
        taken = time.perf_counter() - started
        setting.course.stepped(taken)
        if setting.sizes is not None:
            setting.sizes.stepped(size, taken)

    def _total(self, draft: RawBatch) -> int:
        """Pictures of a step; a process can know of a skipped one that the others never read."""
        training, world = self.setting.training, self.setting.world
        if world.size == 1 or isinstance(training, FeatureLoader) or training.store.bad == "fail":
            return draft.total
        return int(
            world.all_reduce_sum(torch.tensor(float(len(draft.samples)), dtype=torch.float64))
        )

    def _rate(self, progress: float) -> float:
        """Share of the peak rate: the peak in the head's epochs, the schedule after them."""
        recipe, begun = self.setting.recipe, self._begun()
        if progress < begun:
            return 1.0
        length = recipe.length - recipe.head_epochs
        return rate(recipe, (progress - begun) / (1 - begun), length)

    def _begun(self) -> float:
        """Share of the run after which all of the network learns."""
        return self.setting.recipe.head_epochs / self.setting.recipe.length

    def _mode(self, progress: float) -> None:
        """Sets what learns: all, or at first the head; frozen norms stay as they are."""
        recipe = self.setting.recipe
        alone = recipe.head_only or progress < self._begun()
        self.network.train(not alone).requires_grad_(not alone)
        self.network.get_submodule("logits").train().requires_grad_(True)
        if recipe.batch_norm == "frozen":
            for module in self.network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def _glance(self, hooks: Hooks, images: int, progress: float) -> None:
        state = self.state
        self._look()
        ranks, seconds = self.setting.world.size, time.perf_counter() - self._began
        losses = state.losses + [ranks * one[0] for one in self._seen]
        hits = state.hits + [ranks * one[1] for one in self._seen]
        good = np.isfinite(losses)
        pictures = max(int(np.array(state.counts)[good].sum()), 1)
        hooks.glance(
            EpochProgress(
                epoch=state.epoch,
                progress=progress,
                loss=float(np.array(losses)[good].sum()) / pictures,
                accuracy=float(np.array(hits)[good].sum()) / pictures,
                rate=images / seconds,
                memory=peak_memory(self.setting.training.device),
            )
        )

    def _look(self) -> None:
        """Brings what the device has counted here; waits for it."""
        if self._fresh:
            self._seen += torch.stack(self._fresh).tolist()
            self._fresh = []

    def _check(self, hooks: Hooks) -> None:
        """Ends a run whose steps are no longer finite, its last good state saved.

        Called where all processes are alike; waits for the device.
        """
        try:
            self.stepper.look(self.state.step)
        except RunError:
            self._pause()
            self._save(hooks)
            raise

    def _pause(self) -> None:
        """Brings the state up to date, over all processes, and stops its clock."""
        state, now = self.state, time.perf_counter()
        self._look()
        state.trained += now - self._began
        self._began = now
        if self._seen:
            sums = self.setting.world.all_reduce_sum(
                torch.tensor(self._seen, dtype=torch.float64)
            ).tolist()
            state.losses += [one[0] for one in sums]
            state.hits += [one[1] for one in sums]
            self._seen = []
        state.skipped, state.in_row = int(self.stepper.skipped), int(self.stepper.in_row)
        state.seconds = self.setting.course.spent

    def _due(self, now: float, *, ended: bool = False) -> bool:
        """Whether to save: at an epoch's end if that costs little, within it now and then."""
        every, since = self.setting.every, now - self._saved
        if every:
            due = ended or self.state.step % every == 0
        else:
            due = since > (SAVING_SHARE * self._saving if ended else SAVING)
        return bool(self.setting.world.all_reduce_max([float(due)])[0])

    def _save(self, hooks: Hooks) -> None:
        self.state.seconds = self.setting.course.spent
        self.stepper.settle()
        started = time.perf_counter()
        hooks.save(self.state)
        self._saved = time.perf_counter()
        self._saving = self._saved - started

    def _make_epoch(self, evaluation: Evaluation) -> Epoch:
        state, training = self.state, self.setting.training
        good = np.isfinite(state.losses)  # a step that was skipped has none to tell
        if not good.any():
            good[:] = True
        losses, hits, counts, lrs = (
            np.array(one)[good] for one in (state.losses, state.hits, state.counts, state.lrs)
        )
        pictures = int(counts.sum())
        parts = min(PARTS, len(losses))
        passes = state.step / len(training)  # epochs of images that are being read are shorter
        return Epoch(
            epoch=int(passes) if passes == int(passes) else round(passes, 3),
            step=state.step,
            lr=state.lrs[-1],
            loss=sum(losses.tolist()) / pictures,
            accuracy=sum(hits.tolist()) / pictures,
            val_loss=evaluation.loss,
            val_accuracy=evaluation.top1,
            val_images=evaluation.images,
            images_per_second=pictures / state.trained,
            seconds=self.setting.course.spent,
            skipped=state.skipped,
            memory=peak_memory(training.device),
            losses=tuple(float(part.mean()) for part in np.array_split(losses / counts, parts)),
            lrs=tuple(float(part[-1]) for part in np.array_split(lrs, parts)),
        )
