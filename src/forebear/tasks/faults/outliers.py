"""Finds outliers: images whose features are far from those of the other images of their class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forebear.tasks.faults.optional_library import library

NEIGHBOURS = 10
THRESHOLD = 6.0  # robust standard deviations above the median of the class
LEAST = 2 * NEIGHBOURS  # images of a class; smaller classes are left out
_MAD = 1.4826  # a normal distribution's standard deviation in median absolute deviations
_SPREAD = 1e-3  # of the median: the smallest deviation, for classes of nearly equal images


def outlier_scores(features: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns how unusual each image is in its class, in robust standard deviations [n].

    This is the distance to the 10th nearest neighbour (Sun et al., Out-of-distribution detection
    with deep nearest neighbors, ICML 2022), within the class, minus the median of the class, in
    units of 1.4826 times the median absolute deviation. Small classes have the score 0.

    Args:
        features: [n, d]. Each is first scaled to the standard deviation 1 over all images.
        labels: [n].

    Raises:
        ForebearError: scikit-learn is not installed.
    """
    neighbours = library("sklearn.neighbors").NearestNeighbors
    scores = np.zeros(len(labels))
    scale = features.std(0) if len(features) else np.ones(1, np.float32)
    scaled = features / np.maximum(scale, np.finfo(np.float32).tiny)
    for label in np.unique(labels):
        own = labels == label
        if own.sum() < LEAST:
            continue
        search = neighbours(n_neighbors=NEIGHBOURS, algorithm="brute").fit(scaled[own])
        scores[own] = _standardised(search.kneighbors()[0][:, -1].astype(np.float64))
    return scores


def _standardised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    middle = float(np.median(values))
    spread = _MAD * float(np.median(np.abs(values - middle)))
    least = max(_SPREAD * middle, np.finfo(np.float64).tiny)
    return (values - middle) / max(spread, least)
