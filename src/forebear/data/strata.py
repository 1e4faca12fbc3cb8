"""Images in a random order that holds the classes in proportion from the first image on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def stratified(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """All images in an order whose every beginning has its share of each class, to one image.

    Args:
        labels: [N] class numbers.
        seed: of the order; equal labels and seeds give equal orders.
    """
    random = np.random.default_rng(seed)
    place = np.empty(len(labels))
    for label in np.unique(labels):
        own = random.permutation(np.flatnonzero(labels == label))
        place[own] = (np.arange(len(own)) + random.random()) / len(own)
    return np.argsort(place, kind="stable").astype(np.int64)
