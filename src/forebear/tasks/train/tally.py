"""What the steps since the last evaluation gave: their losses, hits, images and learning rates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from forebear.tasks.label_evaluation import AnyEvaluation, LabelEvaluation
from forebear.tasks.machine.distributed import World
from forebear.tasks.runs.metrics import Epoch
from forebear.tasks.train.state import TrainState

PARTS = 20  # of an epoch, for the curves


@dataclass(slots=True, kw_only=True)
class Tally:
    """Collects into the lists of a state, first on the device, so that no step waits for it."""

    state: TrainState
    world: World
    _fresh: list[Tensor] = field(default_factory=list)  # [2] a step: loss and hits, on the device
    _own: list[list[float]] = field(default_factory=list)  # of this process, not yet summed

    def add(self, seen: Tensor, *, images: int, lr: float) -> None:
        """Takes in a step.

        Args:
            seen: [2] on the device, this process's sum of losses and its hits.
            images: Of the step, over all processes.
            lr: Learning rate of the step.
        """
        self._fresh.append(seen)
        self.state.counts.append(images)
        self.state.lrs.append(lr)

    def pull(self) -> None:
        """Copies what is on the device to the CPU, and waits for that."""
        if self._fresh:
            self._own += torch.stack(self._fresh).tolist()
            self._fresh = []

    def unite(self) -> None:
        """Brings the state up to date, with the sums over all processes."""
        self.pull()
        if self._own:
            sums = self.world.all_reduce_sum(torch.tensor(self._own, dtype=torch.float64)).tolist()
            self.state.losses += [one[0] for one in sums]
            self.state.hits += [one[1] for one in sums]
            self._own = []

    def so_far(self) -> tuple[float, float]:
        """Mean loss and accuracy; other processes count as this one, for the last steps."""
        self.pull()
        state, processes = self.state, self.world.size
        losses = state.losses + [processes * one[0] for one in self._own]
        hits = state.hits + [processes * one[1] for one in self._own]
        good = np.isfinite(losses)
        images = max(int(np.array(state.counts)[good].sum()), 1)
        sums = (float(np.array(values)[good].sum()) for values in (losses, hits))
        loss, accuracy = (value / images for value in sums)
        return loss, accuracy

    def epoch(
        self, evaluation: AnyEvaluation, *, steps: int, seconds: float, memory: float
    ) -> Epoch:
        """Returns the line of metrics; steps that were skipped have no loss to count.

        Args:
            evaluation: After the last step.
            steps: In an epoch.
            seconds: Since the start of the run.
            memory: MiB, the peak so far.
        """
        state = self.state
        good = np.isfinite(state.losses)
        if not good.any():
            good[:] = True
        losses, hits, counts, lrs = (
            np.array(one)[good] for one in (state.losses, state.hits, state.counts, state.lrs)
        )
        images = int(counts.sum())
        parts = min(PARTS, len(losses))
        passes = state.step / steps  # fewer than state.epoch while images are still being read
        return Epoch(
            epoch=int(passes) if passes == int(passes) else round(passes, 3),
            step=state.step,
            lr=state.lrs[-1],
            loss=sum(losses.tolist()) / images,
            accuracy=sum(hits.tolist()) / images,
            val_loss=evaluation.loss,
            **_measured(evaluation),
            images_per_second=images / state.trained,
            seconds=seconds,
            skipped=state.skipped,
            memory=memory,
            losses=tuple(float(part.mean()) for part in np.array_split(losses / counts, parts)),
            lrs=tuple(float(part[-1]) for part in np.array_split(lrs, parts)),
        )

    def clear(self) -> None:
        """Forgets the steps, as they have been evaluated."""
        state = self.state
        state.losses, state.hits, state.counts, state.lrs = [], [], [], []
        state.trained = 0.0


def _measured(evaluation: AnyEvaluation) -> dict[str, Any]:
    """Returns the fields of an epoch that an evaluation of the validation images gives."""
    if isinstance(evaluation, LabelEvaluation):
        return {
            "val_accuracy": evaluation.exact_match,
            "val_images": evaluation.images,
            "val_macro_f1": evaluation.macro_f1,
            "val_micro_f1": evaluation.micro_f1,
            "val_map": evaluation.mean_ap,
        }
    classes = evaluation.counts
    return {
        "val_accuracy": evaluation.top1,
        "val_images": evaluation.images,
        "val_balanced": float(classes.balanced()),
        "val_macro_f1": float(classes.macro_f1()),
    }
