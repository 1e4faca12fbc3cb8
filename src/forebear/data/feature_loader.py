"""The features of a frozen network, computed once: batches for a head that learns alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forebear.data.augment.counter_rng import CounterRNG
from forebear.data.augment.crop import to_device
from forebear.data.loader import Batch, Order, RawBatch


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FeatureLoader:
    """What the logits start from, of every picture, in the place of the pictures themselves."""

    values: Tensor  # [views, N, ...] floats on the device: of the picture, of its mirror image
    labels: NDArray[np.int64]  # [N]
    batch: int  # pictures a step, over all processes
    device: torch.device
    rank: int = 0
    ranks: int = 1

    def __len__(self) -> int:
        return -(-self.values.shape[1] // self.batch)

    def in_order(self) -> Iterator[Batch]:
        """Every picture of this process' share once, as it is."""
        mine = np.arange(self.rank, self.values.shape[1], self.ranks)
        for start in range(0, len(mine), self.batch):
            samples = mine[start : start + self.batch]
            yield self._taken(samples, np.zeros(len(samples), np.int64))

    def drafts(self, order: Order, epoch: int, first: int = 0) -> Iterator[RawBatch]:
        """The steps of one epoch from `first` on, every picture once."""
        chosen = np.random.default_rng((order.seed, epoch)).permutation(self.values.shape[1])
        for step, part in enumerate(np.array_split(chosen, len(self))):
            if step >= first:
                mine = np.array_split(part, self.ranks)[self.rank]
                zeros = np.zeros(len(mine), np.int64)
                yield RawBatch(
                    step=step, pixels=self.values[0], samples=mine, views=zeros, total=len(part)
                )

    def view(self, draft: RawBatch, order: Order, epoch: int, size: int) -> Batch:
        """The features of a step, of each picture or by chance of its mirror image."""
        draws = CounterRNG(order.seed, epoch, draft.samples)
        return self._taken(draft.samples, draws.integers("mirror", len(self.values)))

    def _taken(self, samples: NDArray[np.int64], views: NDArray[np.int64]) -> Batch:
        views_there, samples_there, labels = (
            to_device(numbers, self.device) for numbers in (views, samples, self.labels[samples])
        )
        return self.values[views_there, samples_there], labels
