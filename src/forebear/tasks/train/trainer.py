"""Takes the steps of a run, one at a time, and keeps its state up to date."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from forebear.data.augment.mixup import mix
from forebear.data.feature_loader import FeatureLoader
from forebear.data.loader import Order, RawBatch
from forebear.network.network import Network
from forebear.tasks.machine.device import peak_memory
from forebear.tasks.machine.thread_tuning import ThreadTuner
from forebear.tasks.train.budget.adapt import AdaptiveSize
from forebear.tasks.train.events import EpochProgress
from forebear.tasks.train.loss import soft
from forebear.tasks.train.optim.lr_schedule import head_part, share_of_peak, side
from forebear.tasks.train.out_of_memory import explain_out_of_memory
from forebear.tasks.train.prepare import Prepared
from forebear.tasks.train.recipe import Recipe
from forebear.tasks.train.state import TrainState
from forebear.tasks.train.step import Stepper
from forebear.tasks.train.tally import Tally


@dataclass(slots=True, kw_only=True, eq=False)
class Trainer:
    """A network that learns; every step can be the first one of a resumed run."""

    run: Prepared
    stepper: Stepper
    threads: ThreadTuner
    order: Order
    state: TrainState
    tally: Tally
    sizes: AdaptiveSize | None  # on a budget, makes images smaller if steps are too long
    complete: bool = False  # whether all steps of the current epoch are done
    clock: float = 0.0  # time.perf_counter() up to which `state.trained` counts

    def start_epoch(self, progress: float) -> None:
        """Sets what learns, and starts the clock.

        Args:
            progress: Fraction of the run, 0 to 1.
        """
        set_learning(self.run.setup.network, self.run.recipe, progress)
        self.complete = False
        self.clock = time.perf_counter()

    def next_epoch(self) -> None:
        """Goes on to the next epoch if the current one is complete."""
        if self.complete or self.state.place == len(self.run.training):
            self.complete = False
            self.state.epoch, self.state.place = self.state.epoch + 1, 0

    def batches(self) -> Iterator[RawBatch]:
        """Returns the remaining steps of the epoch, of images that all processes have read.

        Raises:
            DataError: An image that was read in the background cannot be decoded.
        """
        training, state = self.run.training, self.state
        if isinstance(training, FeatureLoader) or training.reading is None:
            return training.drafts(self.order, state.epoch, state.place)
        mine = training.reading.available()
        count = -int(self.run.setup.world.all_reduce_max([-float(len(mine))])[0])
        among = None if count == len(training.store) else mine[:count]
        return training.drafts(self.order, state.epoch, state.place, among)

    def step(self, batch: RawBatch, progress: float) -> float:
        """Augments a batch and moves the weights once; returns the seconds that this took.

        Args:
            batch: The images of this process.
            progress: Fraction of the run, 0 to 1.

        Raises:
            RunError: Memory runs out.
            DataError: An image cannot be decoded.
        """
        run, recipe, state = self.run, self.run.recipe, self.state
        size = side(recipe, progress)
        if self.sizes is not None:
            size = self.sizes.size(size)
        share = share_of_peak(recipe, progress)
        started = time.perf_counter()
        self.threads.amount = max(len(batch.samples), 1) * size * (recipe.width or size)
        total = self._count(batch)
        with (
            self.threads,
            explain_out_of_memory(run.setup.network, recipe, run.setup.device),
        ):
            images, labels = run.training.view(batch, self.order, state.epoch, size)
            targets = labels
            if recipe.mixup or recipe.cutmix:
                key = (recipe.seed, state.epoch, batch.step)
                targets = soft(labels, len(run.setup.data.classes))
                images, targets = mix(images, targets, recipe.mixup, recipe.cutmix, key)
            if recipe.stochastic_depth or self.stepper.drops:
                rank = run.setup.world.rank
                torch.manual_seed((recipe.seed << 32) + (rank << 24) + state.step)
            seen = self.stepper(images, targets, labels, total=total, share=share)
        self.tally.add(seen, images=total, lr=recipe.lr * share)
        state.step, state.place = state.step + 1, state.place + 1
        taken = time.perf_counter() - started
        if self.sizes is not None:
            self.sizes.stepped(size, taken)
        return taken

    def _count(self, batch: RawBatch) -> int:
        """Returns the images of a step; no process knows of those that another one skips."""
        training, world = self.run.training, self.run.setup.world
        if world.size == 1 or isinstance(training, FeatureLoader) or training.store.bad == "fail":
            return batch.total
        count = torch.tensor(float(len(batch.samples)), dtype=torch.float64)
        return int(world.all_reduce_sum(count))

    def look(self, images: int, progress: float) -> EpochProgress:
        """Returns how the epoch goes; waits for the device.

        Args:
            images: Trained on since `start_epoch`.
            progress: Fraction of the run, 0 to 1.
        """
        loss, accuracy = self.tally.so_far()
        return EpochProgress(
            epoch=self.state.epoch,
            progress=progress,
            loss=loss,
            accuracy=accuracy,
            rate=images / (time.perf_counter() - self.clock),
            memory=peak_memory(self.run.setup.device),
        )

    def pause(self) -> None:
        """Brings the state up to date, over all processes; waits for the device."""
        state, guard, now = self.state, self.stepper.guard, time.perf_counter()
        self.tally.pull()
        state.trained += now - self.clock
        self.clock = now
        self.tally.unite()
        state.skipped, state.in_row = int(guard.skipped), int(guard.in_row)


def set_learning(network: Network, recipe: Recipe, progress: float) -> None:
    """Sets what learns: all of the network, or the logits alone. Frozen norms stay as they are.

    Args:
        network: Whose training mode and `requires_grad` are set.
        recipe: With its length known.
        progress: Fraction of the run, 0 to 1.
    """
    alone = recipe.head_only or progress < head_part(recipe)
    network.train(not alone).requires_grad_(not alone)
    network.get_submodule("logits").train().requires_grad_(True)
    if recipe.batch_norm == "frozen":
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
