"""Batches of precomputed features, to train only the classifier on top of a frozen network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forebear.data.augment.counter_rng import CounterRNG
from forebear.data.augment.crop import to_device
from forebear.data.loader import Batch, Order, RawBatch


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FeatureLoader:
    """Loads the classifier's input features of every image instead of the images themselves."""

    values: Tensor  # [views, N, ...] floats on the device; views: the image, its horizontal flip
    labels: NDArray[np.int64]  # [N]
    batch: int  # images per step, over all processes
    device: torch.device
    rank: int = 0
    ranks: int = 1

    def __len__(self) -> int:
        return -(-self.values.shape[1] // self.batch)

    def in_order(self) -> Iterator[Batch]:
        """Yields the unflipped features of this process's images, each image once."""
        mine = np.arange(self.rank, self.values.shape[1], self.ranks)
        for start in range(0, len(mine), self.batch):
            samples = mine[start : start + self.batch]
            yield self._taken(samples, np.zeros(len(samples), np.int64))

    def drafts(self, order: Order, epoch: int, first: int = 0) -> Iterator[RawBatch]:
        """Yields the steps of one epoch, starting at step `first`.

        Each image occurs once, unless the classes are balanced; `order.repeats` has no effect.
        """
        drawn = np.stack(replace(order, repeats=1).draws(self.labels, epoch))
        for step, part in enumerate(np.array_split(drawn, len(self), axis=1)):
            if step >= first:
                samples, views = np.array_split(part, self.ranks, axis=1)[self.rank]
                yield RawBatch(
                    step=step,
                    pixels=self.values[0],
                    samples=samples,
                    views=views,
                    total=part.shape[1],
                )

    def view(self, draft: RawBatch, order: Order, epoch: int, size: int) -> Batch:
        """Returns the features of a step, for each image at random unflipped or flipped."""
        draws = CounterRNG(order.seed, epoch, draft.samples, draft.views)
        return self._taken(draft.samples, draws.integers("mirror", len(self.values)))

    def _taken(self, samples: NDArray[np.int64], views: NDArray[np.int64]) -> Batch:
        views_there, samples_there, labels = (
            to_device(numbers, self.device) for numbers in (views, samples, self.labels[samples])
        )
        return self.values[views_there, samples_there], labels
