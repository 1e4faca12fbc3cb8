"""Distributes images over parts or folds by whole units: groups and copies are never parted."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from forebear.data.labels import Labels, incidence

_DIGITS = 9  # of an error; the rest may differ between processors


def units_of(
    digests: Sequence[bytes], groups: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Returns the unit of each image [N]: 0, 1, ... in the order of the hashes of their contents.

    Images of one group are one unit, and so are copies of one content. Groups that share a content
    are therefore one unit too. The numbers do not depend on the order or the names of the images.

    Args:
        digests: The sha256 of each image [N].
        groups: The group of each image [N]; None if there are no groups.
    """
    above: dict[Hashable, Hashable] = {}

    def root(node: Hashable) -> Hashable:
        while above.setdefault(node, node) != node:
            above[node] = node = above[above[node]]
        return node

    nodes: Sequence[Hashable] = digests if groups is None else groups.tolist()
    for digest, node in zip(digests, nodes, strict=True):
        above[root(digest)] = root(node)
    contents: defaultdict[Hashable, set[bytes]] = defaultdict(set)
    roots = [root(digest) for digest in digests]
    for digest, own in zip(digests, roots, strict=True):
        contents[own].add(digest)
    keys = {
        own: hashlib.sha256(b"".join(sorted(members))).digest() for own, members in contents.items()
    }
    number = {own: at for at, own in enumerate(sorted(keys, key=keys.__getitem__))}
    return np.array([number[own] for own in roots], dtype=np.int64)


def distribute(
    units: NDArray[np.int64], labels: Labels, shares: Sequence[float]
) -> NDArray[np.int64]:
    """Returns the part of each image [N], with whole units in each part.

    The units that weigh most in their classes come first. Each goes where it brings the shares of
    its classes closest to those asked for, as in scikit-learn's StratifiedGroupKFold, but with the
    squared errors divided by the share, so that small parts get units of every size. At last a part
    without a class gets a unit of it, if that takes no class away from another part.

    With several labels an image this is a greedy form of iterative stratification (Sechidis et al.
    2011, "On the stratification of multi-label data", section 3.2): images with the rarest labels
    come first. Images without a label are distributed like those of one more label.

    Args:
        units: The unit of each image [N], as `units_of` returns.
        labels: Class indices [N], or [N, classes] of 0 and 1.
        shares: Of each part in the images of every class. They sum to 1.
    """
    table = _Units(units, labels)
    filled = _Filled(table, np.asarray(shares, dtype=np.float64))
    for unit in np.lexsort((np.arange(table.count), -table.weights)).tolist():
        filled.add(unit, filled.best(unit))
    filled.complete()
    return filled.parts[units]


class _Units:
    """The number of images of each class in each unit; classes that it lacks are left out."""

    def __init__(self, units: NDArray[np.int64], labels: Labels) -> None:
        images, numbers = incidence(labels)
        width = int(numbers.max(initial=0)) + 1
        codes, self._counts = np.unique(units[images] * width + numbers, return_counts=True)
        self._owners, self._labels = codes // width, codes % width
        self.totals = np.bincount(numbers, minlength=width)  # [classes]
        self.count = int(units.max(initial=-1)) + 1
        self._starts = np.searchsorted(self._owners, np.arange(self.count + 1))
        shares = self._counts / self.totals[self._labels]
        self.weights = np.bincount(self._owners, shares**2, minlength=self.count)  # [units]

    def __getitem__(self, unit: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns the classes of a unit, and the number of images of each."""
        own = slice(self._starts[unit], self._starts[unit + 1])
        return self._labels[own], self._counts[own]

    def having(self, label: int) -> list[int]:
        """Returns the units that have images of a class."""
        return [int(unit) for unit in self._owners[self._labels == label]]


class _Filled:
    """The parts, and what is in them so far."""

    def __init__(self, units: _Units, shares: NDArray[np.float64]) -> None:
        self.units, self.shares = units, shares[:, None]  # [parts, 1]
        self.parts = np.full(units.count, -1, dtype=np.int64)  # of each unit
        self.images = np.zeros((len(shares), len(units.totals)), dtype=np.int64)  # [parts, classes]
        self.sizes = np.zeros(len(shares), dtype=np.int64)

    def add(self, unit: int, part: int) -> None:
        """Puts a unit into a part; from another one, if it is there."""
        labels, counts = self.units[unit]
        before = int(self.parts[unit])
        if before >= 0:
            self.images[before, labels] -= counts
            self.sizes[before] -= counts.sum()
        self.images[part, labels] += counts
        self.sizes[part] += counts.sum()
        self.parts[unit] = part

    def best(self, unit: int) -> int:
        """Returns the part with the least error after it gets the unit; the smaller one of two."""
        return int(np.lexsort((self.sizes / self.shares[:, 0], self._added(unit, 1)))[0])

    def complete(self) -> None:
        """Moves a unit into each part that lacks a class, the rarest class first."""
        for label in np.argsort(self.units.totals, kind="stable").tolist():
            if not self.units.totals[label]:
                continue
            for part in np.flatnonzero(self.images[:, label] == 0).tolist():
                movable = [unit for unit in self.units.having(label) if self._spares(unit)]
                if movable:
                    self.add(min(movable, key=lambda unit: self._moved(unit, part)), part)

    def _spares(self, unit: int) -> bool:
        """Whether the part of a unit keeps images of each of its classes without it."""
        labels, counts = self.units[unit]
        return bool((self.images[self.parts[unit], labels] > counts).all())

    def _moved(self, unit: int, part: int) -> float:
        added, removed = self._added(unit, 1), self._added(unit, -1)
        return round(float(added[part] + removed[self.parts[unit]]), _DIGITS)

    def _added(self, unit: int, sign: int) -> NDArray[np.float64]:
        """Returns by how much the error of each part grows if a unit is added (1) or removed (-1).

        The error of a part with the share w is the sum of (f - w)^2 / w over the classes, of each
        of which it has the fraction f.
        """
        labels, counts = self.units[unit]
        total = self.units.totals[labels]
        step, fraction = sign * counts / total, self.images[:, labels] / total
        grown = (step**2 + 2 * step * (fraction - self.shares)) / self.shares
        errors: NDArray[np.float64] = grown.sum(1).round(_DIGITS)
        return errors
