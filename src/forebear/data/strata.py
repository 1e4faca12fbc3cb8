"""Stratified shuffling: a random order in which every prefix has balanced class proportions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forebear.data.labels import Labels, strata


def stratified(labels: Labels, seed: int) -> NDArray[np.int64]:
    """Returns a random order [N] of all images whose every prefix is stratified by class.

    In every prefix, the number of images of a class is proportional to the size of that class, to
    within one image. Multi-label images count by the rarest of their labels; see `strata`.

    Args:
        labels: Class indices [N], or [N, classes] of 0 and 1.
        seed: Seed of the order. Equal labels and seeds give equal orders.
    """
    random, labels = np.random.default_rng(seed), strata(labels)
    place = np.empty(len(labels))
    for label in np.unique(labels):
        own = random.permutation(np.flatnonzero(labels == label))
        place[own] = (np.arange(len(own)) + random.random()) / len(own)
    return np.argsort(place, kind="stable").astype(np.int64)
