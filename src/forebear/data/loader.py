"""Turns stored pixels into batches of tensors: shuffled, augmented and normalised.

The augmentation of an image depends only on (seed, epoch, image, view), and the order of the images
only on (seed, epoch), and on the labels if the classes are balanced. Neither depends on the batch
size, the number of threads or processes, or the step at which a run was resumed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forebear.data.augment.config import Augment
from forebear.data.augment.counter_rng import CounterRNG
from forebear.data.augment.crop import to_device
from forebear.data.augment.pipeline import augment, resized_box
from forebear.data.balanced_draws import balanced_draws
from forebear.data.decoder import Indices
from forebear.data.images.decode import Box
from forebear.data.pixel_cache import Pixels
from forebear.data.pixel_store import PixelStore
from forebear.data.reading import Reading
from forebear.tables.preprocessing import Preprocessing

RESIDENT = 0.25  # largest fraction of a GPU's free memory that a data set may occupy
Batch = tuple[Tensor, Tensor]  # images [n, C, H, W] floats, labels [n] int64


@dataclass(frozen=True, slots=True, kw_only=True)
class RawBatch:
    """The images of one step as they are stored, before augmentation."""

    step: int  # within its epoch, from 0
    pixels: Tensor  # [n, H, W, C] uint8, on the device
    samples: NDArray[np.int64]  # [n], indices of the images in the data set
    views: NDArray[np.int64]  # [n], which augmented view of the image this is, from 0
    total: int  # images of this step over all processes


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The settings that determine the order of the images and their augmentation."""

    augment: Augment
    seed: int
    repeats: int = 1  # augmented views of an image in one batch (Hoffer et al. 2019)
    balanced: bool = False  # whether an epoch has as many images of every class

    def draws(self, labels: Indices, epoch: int) -> tuple[Indices, Indices]:
        """Returns the images of an epoch in their order, and the augmented view of each.

        Each image occurs once, unless the classes are balanced. With `repeats` above 1, each drawn
        image occurs that many times in a row, and fewer images are drawn so that the epoch keeps
        its length. The same image has another view each time.

        Args:
            labels: Class indices [N] of the images to draw from.
            epoch: Number of the epoch, from 1.

        Returns:
            Indices [N] into `labels`, and views [N], from 0.
        """
        count, repeats = len(labels), self.repeats
        drawn = -(-count // repeats)
        if self.balanced:
            chosen, seen = balanced_draws(labels, drawn, seed=self.seed, epoch=epoch)
        else:
            chosen = np.random.default_rng((self.seed, epoch)).permutation(count)[:drawn]
            seen = np.zeros(drawn, np.int64)
        views = seen[:, None] * repeats + np.arange(repeats)
        return np.repeat(chosen, repeats)[:count], views.ravel()[:count]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Resident:
    """All images of a store in the memory of a GPU."""

    source: Pixels  # the array that they were copied from
    device: torch.device
    pixels: Tensor

    @classmethod
    def of(cls, source: Pixels, device: torch.device, there: Resident | None) -> Resident | None:
        """Returns the images on a GPU, or None if they would take too much of its memory.

        Args:
            source: All images of a store.
            device: The GPU.
            there: Images on a GPU, which are used if they are copies of the same images.
        """
        if there is not None and there.source is source and there.device == device:
            return there
        free, _ = torch.cuda.mem_get_info(device)
        if source.nbytes > RESIDENT * free:
            return None
        return cls(source=source, device=device, pixels=copied(source, device))


def copied(pixels: Pixels, device: torch.device) -> Tensor:
    """Returns pixels on a device. The array may be read-only, as that of a cache file is."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(pixels).to(device, copy=True)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Loader:
    """Yields batches of network inputs and labels from a pixel store."""

    store: PixelStore
    labels: NDArray[np.int64]  # [N] int64, indices of the logits
    rule: Preprocessing  # size, channel order, scale, mean and std of the output
    batch: int  # images per step, over all processes
    device: torch.device
    rank: int = 0  # rank of this process
    ranks: int = 1  # number of processes; each takes a slice of every batch
    reading: Reading | None = None  # set if some images are still being decoded during training
    shown: Indices | None = None  # images that `in_order` yields, in this order; None: all
    # All images, on a GPU that has room for them. Copies by `replace` share them.
    resident: Resident | None = None
    _colours: tuple[Tensor, Tensor] = field(init=False)  # mean and std, on the device

    def __post_init__(self) -> None:
        colours = (torch.tensor(v, device=self.device) for v in (self.rule.mean, self.rule.std))
        object.__setattr__(self, "_colours", tuple(colours))
        resident = None
        if self.store.kept is not None and self.device.type == "cuda":
            resident = Resident.of(self.store.kept, self.device, self.resident)
        object.__setattr__(self, "resident", resident)

    def __len__(self) -> int:
        return -(-len(self.store) // self.batch)

    @property
    def places(self) -> Indices:
        """Indices [n] of the images that `in_order` yields over all processes, in its order."""
        if self.shown is None:
            return self.store.indices
        return self.shown[~np.isin(self.shown, list(self.store.skipped))]

    def available(self) -> Indices | None:
        """Returns the images that an epoch may draw from, or None for all of them.

        Raises:
            DataError: The background reader met an image that cannot be decoded.
        """
        if self.reading is None:
            return None
        found = self.reading.available()
        return None if len(found) == len(self.store) else found

    def in_order(self) -> Iterator[Batch]:
        """Yields the centre crops of this process's images in `places`, each image once."""
        mine = self.places[self.rank :: self.ranks]
        parts = [mine[start : start + self.batch] for start in range(0, len(mine), self.batch)]
        for indices, pixels in _ahead(parts, self._take):
            middle = _middle(self._there(indices, pixels), self.rule.shape)
            yield self._batch(middle, indices)

    def drafts(
        self, order: Order, epoch: int, first: int = 0, among: Indices | None = None
    ) -> Iterator[RawBatch]:
        """Yields the steps of one epoch of training, starting at step `first`.

        `Order.draws` says which images an epoch has. Batch sizes differ by at most one image, but a
        skipped image is missing from its batch.

        Args:
            order: Order of the images and their augmentation.
            epoch: Number of the epoch.
            first: First step to yield.
            among: Images that the epoch draws from, or None for all of them.

        Raises:
            DataError: An image cannot be decoded.
        """
        labels = self.labels if among is None else self.labels[among]
        chosen, views = order.draws(labels, epoch)
        if among is not None:
            chosen = among[chosen]
        steps = -(-len(labels) // self.batch)
        parts = np.array_split(np.stack((chosen, views)), steps, axis=1)
        mine = [np.array_split(part, self.ranks, axis=1)[self.rank] for part in parts]
        read = partial(self._read, order, epoch)
        for step, (found, pixels) in enumerate(_ahead(mine[first:], read), first):
            if self.reading is not None:
                self.reading.available()  # raises the error of the background reader, if any
            gone = np.isin(parts[step][0], list(self.store.skipped))
            yield RawBatch(
                step=step,
                pixels=self._there(found[0], pixels),
                samples=found[0],
                views=found[1],
                total=int(np.count_nonzero(~gone)),
            )

    def view(self, draft: RawBatch, order: Order, epoch: int, size: int) -> Batch:
        """Returns the images, cropped to `size` pixels, augmented and normalised, and labels.

        `size` is the side of a square, or the height if the rule has a width, which does not grow.
        """
        draws = CounterRNG(order.seed, epoch, draft.samples, draft.views)
        rule = _shaped(order.augment, self.rule)
        if self._streams(rule):
            rule = replace(rule, crop="middle")
        mean = self.rule.mean[::-1] if self.rule.order == "BGR" else self.rule.mean
        shape = (size, self.rule.width or size)
        fill = tuple(value / self.rule.scale for value in mean)
        pixels = augment(draft.pixels, shape, rule, draws, window=self.rule.shape, fill=fill)
        return self._batch(pixels, draft.samples)

    def _streams(self, rule: Augment) -> bool:
        """Returns whether random crops are taken from the full image while it is decoded."""
        from_file = (
            self.rule.resize == "shorter"
        )  # a part of a padded image may be no part of the file
        return rule.crop == "resized" and from_file and not self.store.fits

    def _read(self, order: Order, epoch: int, wanted: Indices) -> tuple[Indices, Pixels]:
        """Returns those rows of (image, view) [2, n] that can be decoded, and their pixels."""
        if not self._streams(order.augment):
            found, pixels = self._take(wanted[0])
            return wanted[:, np.isin(wanted[0], found)], pixels
        kept, parts, rule = [], [], _shaped(order.augment, self.rule)
        for group in _distinct(wanted):
            views = dict(zip(*group.tolist(), strict=True))

            def box(index: int, width: int, height: int, views: dict[int, int] = views) -> Box:
                draws = CounterRNG(order.seed, epoch, np.array([index]), views[index])
                left, top, right, bottom = resized_box(width, height, rule, draws)[0]
                return float(left), float(top), float(right), float(bottom)

            found, part = self.store.take_crops(group[0], box)
            kept.append(group[:, np.isin(group[0], found)])
            parts.append(part)
        return np.concatenate(kept, axis=1), np.concatenate(parts)

    def _take(self, wanted: Indices) -> tuple[Indices, Pixels]:
        """As the store's `take`; without the pixels where the device has them."""
        if self.resident is None:
            return self.store.take(wanted)
        return wanted[~np.isin(wanted, list(self.store.skipped))], np.empty(0, np.uint8)

    def _there(self, indices: Indices, pixels: Pixels) -> Tensor:
        if self.resident is None:
            return to_device(pixels, self.device)
        return self.resident.pixels[to_device(indices, self.device)]

    def _batch(self, pixels: Tensor, indices: Indices) -> Batch:
        """Returns the normalised images and their labels."""
        if self.rule.order == "BGR":
            pixels = pixels.flip(-1)
        mean, std = self._colours
        values = (pixels * self.rule.scale - mean) / std
        labels = to_device(self.labels[indices], self.device)
        return values.permute(0, 3, 1, 2), labels  # channels last in memory


def _shaped(augment: Augment, rule: Preprocessing) -> Augment:
    """Returns the augmentation with the ratio of its crops relative to that of the input."""
    if rule.width is None:
        return augment
    ratio = rule.width / rule.size
    least, most = augment.crop_ratio
    return replace(augment, crop_ratio=(least * ratio, most * ratio))


def _distinct(wanted: Indices) -> list[Indices]:
    """Splits (image, view) [2, n] into parts in which each image occurs at most once."""
    by_image = np.argsort(wanted[0], kind="stable")
    counts = np.unique(wanted[0], return_counts=True)[1]
    turn = np.empty(wanted.shape[1], np.int64)
    turn[by_image] = np.arange(len(turn)) - np.repeat(np.cumsum(counts) - counts, counts)
    return [wanted[:, turn == number] for number in range(counts.max(initial=1))]


def _ahead(
    parts: list[Indices], read: Callable[[Indices], tuple[Indices, Pixels]]
) -> Iterator[tuple[Indices, Pixels]]:
    """Yields the result of `read` for each part, and prefetches the next part meanwhile."""
    if not parts:
        return
    with ThreadPoolExecutor(1, "batch") as reader:
        waiting = reader.submit(read, parts[0])
        for number in range(len(parts)):
            found = waiting.result()
            if number + 1 < len(parts):
                waiting = reader.submit(read, parts[number + 1])
            yield found


def _middle(pixels: Tensor, shape: tuple[int, int]) -> Tensor:
    height, width = shape
    top, left = (pixels.shape[1] - height) // 2, (pixels.shape[2] - width) // 2
    return pixels[:, top : top + height, left : left + width]
