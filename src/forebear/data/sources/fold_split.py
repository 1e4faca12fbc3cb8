"""The training and validation images of each fold of a cross-validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from forebear.data.dataset import Dataset, Images, joined
from forebear.data.fold import Fold
from forebear.data.groups import Groups
from forebear.data.sources.folds import folds
from forebear.data.sources.split import digests_of, parted
from forebear.text import printable


@dataclass(frozen=True, slots=True, eq=False)
class FoldPlan:
    """The images of a cross-validation, and the fold that validates each of them."""

    data: Dataset  # as it was read
    images: Images  # N
    groups: Groups | None
    digests: Sequence[bytes]  # [N]
    numbers: NDArray[np.int64]  # [N], 1 to count
    count: int

    @classmethod
    def of(cls, data: Dataset, count: int) -> FoldPlan:
        """Returns the folds of a data set, which depend on the contents of its images alone.

        Args:
            data: As it was read. If its validation images were split off from the training images,
                all of them are distributed; else the training images alone.
            count: Number of folds.

        Raises:
            ValueError: `count` is less than 2.
            DataError: A class or label has fewer images or groups than there are folds.
        """
        images, groups = pool(data)
        digests = digests_of(images)
        own = None if groups is None else groups.numbers
        numbers = 1 + folds(digests, images.labels, own, count, classes=data.classes)
        return cls(data, images, groups, digests, numbers, count)

    def places(self, number: int) -> NDArray[np.int64]:
        """Returns the indices of the images that a fold validates on, rising."""
        return np.flatnonzero(self.numbers == number)

    def split(self, number: int) -> Dataset:
        """Returns the data set of a fold. A validation set of the data's own is its test set."""
        data = self.data
        kind = "label" if data.multi_label else "class"
        by = "" if self.groups is None else f", in whole groups by {printable(self.groups.by)}"
        found = parted(
            self.images,
            self.numbers == number,
            self.digests,
            spec=data.spec,
            classes=data.classes,
            side=data.side,
            mirror=data.mirror,
            groups=self.groups,
            split=f"fold {number} of {self.count} validates, stratified by {kind}{by}",
        )
        if data.splits_off:
            return replace(found, test=data.test, skipped=data.skipped, notes=data.notes)
        return as_test(found, data)


def as_test(split: Dataset, data: Dataset) -> Dataset:
    """Returns a split of the training images, with the data's own validation set as test set.

    Args:
        split: Of the training images.
        data: As it was read.
    """
    origins = {"train": data.origins.get("train", ""), "test": data.origins.get("val", "")}
    groups = dict(split.groups) | ({"test": data.groups["val"]} if data.groups else {})
    return replace(
        split,
        test=data.val,
        origins=origins,
        skipped=data.skipped,
        notes=data.notes,
        groups=groups,
    )


def split_fold(data: Dataset, fold: Fold) -> Dataset:
    """Returns the training and validation images of one fold; raises what `FoldPlan.of` does."""
    return FoldPlan.of(data, fold.count).split(fold.number)


def pool(data: Dataset) -> tuple[Images, Groups | None]:
    """Returns the images that are distributed over the folds, and their groups."""
    if not data.splits_off:
        return data.train, data.groups.get("train")
    if data.whole is not None and not data.groups:
        return data.whole, None
    groups = [data.groups[part] for part in ("train", "val")] if data.groups else []
    numbers = [part.numbers for part in groups]
    whole = replace(groups[0], numbers=np.concatenate(numbers)) if groups else None
    return joined([data.train, data.val]), whole
