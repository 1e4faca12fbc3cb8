"""Class-balanced sampling: an epoch in which all classes are equally frequent."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def balanced_draws(
    labels: Indices, count: int, *, seed: int, epoch: int
) -> tuple[Indices, Indices]:
    """Returns the images of one epoch, drawn so that the classes are equally frequent.

    This is class-balanced sampling (Kang et al. 2020, "Decoupling representation and classifier",
    section 3), without its chance: each class has a fixed random order of its images, and every
    epoch goes on in it where the epoch before ended. So an image is drawn again only after all
    other images of its class, within an epoch and over the epochs, and a large class shows all of
    its images in turn. The draws depend on nothing but the arguments.

    Args:
        labels: Class indices [N] of the images to draw from. Classes without images are left out.
        count: Images to draw.
        seed: Seed of the order.
        epoch: Number of the epoch, from 1.

    Returns:
        Indices [count] into `labels`, in random order, where the numbers of draws of two classes
        differ by at most one; and [count] how often the epoch draws the same image besides, from
        0. No pair of both occurs twice.
    """
    places, sizes = np.unique(labels, return_inverse=True, return_counts=True)[1:]
    shuffled = np.random.default_rng((seed, 0)).permutation(len(labels))  # epochs start at 1
    by_class = shuffled[np.argsort(places[shuffled], kind="stable")]
    # Rounding (epoch * count + r) / classes down for each class r shares out epoch * count exactly.
    ranks = np.arange(len(sizes))
    before = ((epoch - 1) * count + ranks) // len(sizes)
    draws = (epoch * count + ranks) // len(sizes) - before
    drawn = np.repeat(ranks, draws)  # the class of each draw
    turn = np.arange(count) - np.repeat(np.cumsum(draws) - draws, draws)  # within its class
    starts = np.cumsum(sizes) - sizes
    chosen = by_class[starts[drawn] + (before[drawn] + turn) % sizes[drawn]]
    order = np.random.default_rng((seed, epoch)).permutation(count)
    return chosen[order], (turn // sizes[drawn])[order]
