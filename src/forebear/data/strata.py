"""Stratified shuffling: a random order in which every prefix has balanced class proportions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def stratified(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Returns a random order [N] of all images whose every prefix is stratified by class.

    In every prefix, the number of images of a class is proportional to the size of that class, to
    within one image.

    Args:
        labels: Class indices [N].
        seed: Seed of the order. Equal labels and seeds give equal orders.
    """
    random = np.random.default_rng(seed)
    place = np.empty(len(labels))
    for label in np.unique(labels):
        own = random.permutation(np.flatnonzero(labels == label))
        place[own] = (np.arange(len(own)) + random.random()) / len(own)
    return np.argsort(place, kind="stable").astype(np.int64)
