"""Squares of pixels as batches of tensors: shuffled, moved, mirrored and normalised.

What a picture goes through depends on (seed, epoch, its place in the epoch) alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from forebear.data.store import Store
from forebear.tables.preprocessing import Preprocessing

Batch = tuple[Tensor, Tensor]  # images [n, C, size, size] floats, labels [n] int64


@dataclass(frozen=True, slots=True, kw_only=True)
class Motion:
    """How training pictures are moved, so that no two epochs are alike."""

    shift: int  # pixels, the most to each side
    mirror: bool  # left and right swapped for every other picture


@dataclass(frozen=True, slots=True, eq=False)
class Batches:
    """A store's pictures and labels, as a network takes them."""

    store: Store
    labels: NDArray[np.int64]  # [N] int64, in the order of the logits
    rule: Preprocessing  # the size, order, scale, mean and std of what comes out
    batch: int  # pictures
    device: torch.device

    def __len__(self) -> int:
        return -(-len(self.store) // self.batch)

    def in_order(self) -> Iterator[Batch]:
        """Every picture once, its middle, in the order of the store."""
        for indices, pixels in self._pixels(np.arange(len(self.store)), self.batch):
            yield self._normalise(_middle(pixels, self.rule.size)), self._labels(indices)

    def shuffled(self, motion: Motion, *, seed: int, epoch: int) -> Iterator[Batch]:
        """One epoch of training: every picture once, in a new order, in batches of like size."""
        random = np.random.default_rng((seed, epoch))
        order = random.permutation(len(self.store))
        draws = torch.Generator().manual_seed(int(random.integers(2**62)))
        for indices, pixels in self._pixels(order, -(-len(order) // len(self))):
            moved = move(pixels, self.rule.size, motion, draws)
            yield self._normalise(moved), self._labels(indices)

    def _pixels(
        self, order: NDArray[np.int64], batch: int
    ) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        """Indices and pixels [n, H, W, C], the next batch decoded while this one is used."""
        parts = [order[start : start + batch] for start in range(0, len(order), batch)]
        with ThreadPoolExecutor(1, "batch") as reader:
            waiting = reader.submit(self.store.__getitem__, parts[0])
            for number, indices in enumerate(parts):
                pixels = torch.from_numpy(waiting.result())
                if number + 1 < len(parts):
                    waiting = reader.submit(self.store.__getitem__, parts[number + 1])
                yield indices, pixels.to(self.device, non_blocking=True)

    def _labels(self, indices: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(self.labels[indices]).to(self.device)

    def _normalise(self, pixels: Tensor) -> Tensor:
        rule = self.rule
        if rule.order == "BGR":
            pixels = pixels.flip(-1)
        mean, std = (torch.tensor(v, device=self.device) for v in (rule.mean, rule.std))
        values = (pixels * rule.scale - mean) / std
        return values.permute(0, 3, 1, 2)  # channels last in memory


def _middle(pixels: Tensor, size: int) -> Tensor:
    top, left = ((side - size) // 2 for side in pixels.shape[1:3])
    return pixels[:, top : top + size, left : left + size]


def move(pixels: Tensor, size: int, motion: Motion, draws: torch.Generator) -> Tensor:
    """Cuts a square of `size` out of each picture [n, H, W, C], shifted and mirrored by chance.

    The cut moves within the picture where it is large enough, and over a black border elsewhere.
    """
    count, spare = len(pixels), (pixels.shape[1] - size) // 2
    reach = max(motion.shift, spare)
    border = reach - spare
    if border:
        pixels = F.pad(pixels, (0, 0, border, border, border, border))
    steps = torch.randint(0, 2 * reach + 1, (2, count), generator=draws)
    mirrored = torch.rand(count, generator=draws) < (0.5 if motion.mirror else 0.0)
    steps, mirrored = steps.to(pixels.device), mirrored.to(pixels.device)
    along = torch.arange(size, device=pixels.device)
    columns = torch.where(mirrored[:, None], along.flip(0), along) + steps[1][:, None]
    rows = along + steps[0][:, None]
    which = torch.arange(count, device=pixels.device)[:, None, None]
    return pixels[which, rows[:, :, None], columns[:, None, :]]
