"""The training loop: steps, epochs, and what is measured on the way."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from forebear.data.batches import Batches, Motion
from forebear.errors import RunError
from forebear.network.network import Network
from forebear.tasks.evaluate import Evaluation, evaluate
from forebear.tasks.threads import Threads
from forebear.tasks.train.checkpoint import load_checkpoint, save_checkpoint
from forebear.tasks.train.optimizer import make_optimizer
from forebear.tasks.train.recipe import Recipe
from forebear.tasks.train.schedule import triangular

PARTS = 20  # of an epoch, for the curves
GLANCE = 0.25  # seconds between two looks at the loss: each waits for the device


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """The state within an epoch."""

    epoch: int  # from 1
    images: int  # seen in this epoch
    loss: float  # mean of this epoch so far, nats
    accuracy: float  # share of this epoch's training pictures named rightly so far
    rate: float  # images a second in this epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """One finished epoch: a line of metrics.jsonl."""

    epoch: int  # from 1
    lr: float  # learning rate of its last step
    loss: float  # mean cross-entropy of training pictures as they were seen, nats
    accuracy: float  # share of them named rightly as they were seen
    val_loss: float
    val_accuracy: float
    images_per_second: float  # of training, without the evaluation
    seconds: float  # since the first step, evaluations included
    losses: tuple[float, ...]  # the loss in up to 20 equal parts of the epoch, in order
    lrs: tuple[float, ...]  # the learning rate at the end of each part

    @classmethod
    def read(cls, line: str) -> Epoch:
        """The epoch of a line of metrics.jsonl."""
        data = json.loads(line)
        return cls(**(data | {key: tuple(data[key]) for key in ("losses", "lrs")}))


def fit(
    network: Network,
    training: Batches,
    held_out: Batches,
    classes: tuple[str, ...],
    recipe: Recipe,
    threads: Threads,
    glance: Callable[[Glance], None],
    *,
    checkpoint: Path,
    resume: bool = False,
) -> Iterator[tuple[Epoch, Evaluation]]:
    """Trains a network in place, and gives each epoch with the evaluation after it.

    Each epoch is kept in `checkpoint` before it is given; `resume` goes on from there.

    Raises:
        RunError: the loss is no longer finite, and the message says at which step; or the
            checkpoint cannot be gone on from.
    """
    device, optimizer = training.device, make_optimizer(network, recipe)
    done, before = load_checkpoint(checkpoint, network, optimizer) if resume else (0, 0.0)
    motion = Motion(shift=recipe.shift, mirror=recipe.mirror)
    steps, step = recipe.epochs * len(training), done * len(training)
    begun = time.perf_counter() - before
    for number in range(done + 1, recipe.epochs + 1):
        network.train()
        losses: list[torch.Tensor] = []  # left on the device until the epoch's end
        lrs: list[float] = []
        loss_sum = torch.zeros((), device=device)
        right = torch.zeros((), dtype=torch.int64, device=device)
        images, started, looked = 0, time.perf_counter(), 0.0
        for pictures, labels in training.shuffled(motion, seed=recipe.seed, epoch=number):
            lr = recipe.lr * triangular(step, steps, recipe.warmup)
            for group in optimizer.param_groups:
                group["lr"] = lr
            with threads:
                loss, hits = _step(network, optimizer, pictures, labels, recipe)
            losses.append(loss)
            loss_sum += loss * len(labels)
            right += hits
            lrs.append(lr)
            images, step = images + len(labels), step + 1
            if time.perf_counter() - looked > GLANCE:
                looked = time.perf_counter()
                state = Glance(
                    epoch=number,
                    images=images,
                    loss=_finite(float(loss_sum) / images, step, recipe),
                    accuracy=int(right) / images,
                    rate=images / (looked - started),
                )
                glance(state)
        mean = _finite(float(loss_sum) / images, step, recipe)
        trained = time.perf_counter() - started
        measured = evaluate(network, held_out, classes, precision=recipe.precision)
        epoch = Epoch(
            epoch=number,
            lr=lr,
            loss=mean,
            accuracy=int(right) / images,
            val_loss=measured.loss,
            val_accuracy=measured.top1,
            images_per_second=images / trained,
            seconds=time.perf_counter() - begun,
            losses=_parts(torch.stack(losses).tolist()),
            lrs=tuple(float(part[-1]) for part in np.array_split(lrs, min(PARTS, len(lrs)))),
        )
        save_checkpoint(checkpoint, network, optimizer, epoch=number, seconds=epoch.seconds)
        yield epoch, measured


def _step(
    network: Network,
    optimizer: torch.optim.Optimizer,
    pictures: torch.Tensor,
    labels: torch.Tensor,
    recipe: Recipe,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Moves the weights once; gives the mean loss and the pictures named rightly, on the device.

    The loss given is what held-out pictures are measured by: without smoothing.
    """
    with torch.autocast(pictures.device.type, torch.bfloat16, recipe.precision == "bf16"):
        logits = network(pictures)
    logits = logits.float()
    smoothed = F.cross_entropy(logits, labels, label_smoothing=recipe.smoothing)
    optimizer.zero_grad()
    smoothed.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    with torch.no_grad():
        return F.cross_entropy(logits, labels), (logits.argmax(1) == labels).sum()


def _parts(values: list[float]) -> tuple[float, ...]:
    return tuple(float(part.mean()) for part in np.array_split(values, min(PARTS, len(values))))


def _finite(loss: float, step: int, recipe: Recipe) -> float:
    if math.isfinite(loss):
        return loss
    raise RunError(
        f"the loss is {loss} after step {step}: the weights have run away. Expected a finite loss. "
        f"Try a smaller learning rate, --lr {recipe.lr / 4:g}."
    )
